"""Colours leave the sound alone; stretching does not."""

import pytest
import torch

from itsound_core.colormap import COLORMAPS, apply_colormap, renormalize
from itsound_core.spectrogram import AUFFUSION


@pytest.mark.parametrize("name", COLORMAPS)
def test_the_channel_mean_of_every_colour_is_the_picture(name):
    picture = torch.linspace(0, 1, 4096).repeat(2, 4, 1)
    colours = apply_colormap(picture, name)
    assert colours.shape == (2, 4, 4096, 3)
    assert colours.min() >= 0 and colours.max() <= 1
    assert (colours.double().mean(-1) - picture).abs().max() < 1e-6


@pytest.mark.parametrize("name", COLORMAPS)
def test_saved_colours_differ_from_the_picture_by_less_than_one_level(name):
    picture = torch.rand(1, 64, 256, generator=torch.Generator().manual_seed(0))
    saved = (apply_colormap(picture, name) * 255).round() / 255
    decibels = (saved.double().mean(-1) - picture).abs().max() * 255 * AUFFUSION.decibels_per_level
    assert decibels < AUFFUSION.decibels_per_level


@pytest.mark.parametrize("name", COLORMAPS)
def test_a_louder_point_looks_brighter(name):
    colours = apply_colormap(torch.linspace(0, 1, 4096)[None, None], name)
    luminance = colours @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert luminance.diff().min() > -1e-6


def test_maps_other_than_gray_have_colour():
    picture = torch.full((1, 1, 1), 0.5)
    for name in COLORMAPS:
        colours = apply_colormap(picture, name)[0, 0, 0]
        assert (colours.max() - colours.min() > 0.2) == (name != "gray")


def test_renormalising_fills_the_range_of_each_picture_and_leaves_silence_black():
    pictures = torch.stack([torch.tensor([[0.2, 0.3, 0.4]]), torch.zeros(1, 3), torch.tensor([[0.0, 0.5, 1.0]])])
    stretched = renormalize(pictures)
    assert torch.allclose(stretched, torch.tensor([[[0.0, 0.5, 1.0]], [[0.0, 0.0, 0.0]], [[0.0, 0.5, 1.0]]]), atol=1e-6)
