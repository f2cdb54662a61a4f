"""Colour keeps the gray: in a sampler, in the gamut, and through an 8-bit file."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from itsound_core.colorize import (
    color_spectrogram,
    enlarge_color,
    nearest_zero_sum,
    split_gray,
    with_gray,
    within_gamut,
)


def truncating(pixels):
    """Bytes as ComfyUI's SaveImage makes them."""
    return np.clip(255.0 * pixels.numpy(), 0, 255).astype(np.uint8)


def rounding(pixels):
    return np.clip(255.0 * pixels.numpy(), 0, 255).round().astype(np.uint8)


SAVERS = [truncating, rounding]
EXTREMES = {
    "silence": torch.zeros(1, 1, 16, 16),
    "full loudness": torch.ones(1, 1, 16, 16),
    "every byte": (torch.arange(256) / 255).view(1, 1, 16, 16),
    "between bytes": ((torch.arange(256).clamp(max=254) + 0.5) / 255).view(1, 1, 16, 16),
    "just below bytes": torch.from_numpy(np.nextafter(np.arange(256, dtype=np.float32) / 255, 0)).view(1, 1, 16, 16),
    "just above bytes": torch.from_numpy(np.nextafter(np.arange(256, dtype=np.float32) / 255, 1)).view(1, 1, 16, 16),
    "near black": 0.02 * torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(1)),
    "near white": 1 - 0.02 * torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(2)),
    "anything": torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(3)),
}


def colors(gray, strength, seed=0):
    return strength * torch.randn(len(gray), 3, *gray.shape[2:], generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("strength", [0.0, 1e-3, 0.05, 1.0, 100.0])
@pytest.mark.parametrize("gray", EXTREMES.values(), ids=EXTREMES)
def test_an_8_bit_file_keeps_the_gray_exactly_and_the_float_picture_to_1e6(gray, strength):
    pixels = color_spectrogram(gray, colors(gray, strength)).pixels
    assert pixels.dtype == torch.float32 and pixels.min() >= 0 and pixels.max() <= 1
    assert (pixels.mean(dim=1, keepdim=True) - gray).abs().max() <= 1e-6
    for saver in SAVERS:
        np.testing.assert_array_equal(saver(pixels).astype(int).sum(axis=1, keepdims=True), 3 * saver(gray).astype(int))


def test_chroma_moves_in_whole_levels_and_is_nearest_to_what_was_asked_where_it_fits():
    gray, color = EXTREMES["anything"], split_gray(colors(EXTREMES["anything"], 0.03))[1]
    levels = 255 * split_gray(color_spectrogram(gray, color).pixels.double())[1]
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    middling = ((gray > 0.3) & (gray < 0.7)).expand(-1, 3, -1, -1)
    assert (levels - 255 * color).abs()[middling].max() < 0.75  # an error of 1 could be halved by moving a level between two channels
    assert levels.abs()[middling].mean() > 3


def test_no_zero_sum_triple_is_nearer_than_the_one_chosen():
    triples = split_gray(3 * torch.randn(1, 3, 20, 20, dtype=torch.double, generator=torch.Generator().manual_seed(0)))[1]
    chosen = nearest_zero_sum(triples)
    assert (chosen.sum(dim=1) == 0).all() and (chosen == chosen.round()).all()
    distance = (triples - chosen).square().sum(dim=1)
    for a, b in itertools.product((-1, 0, 1), repeat=2):
        neighbor = chosen + torch.tensor([a, b, -a - b]).view(1, 3, 1, 1)
        assert (distance <= (triples - neighbor).square().sum(dim=1) + 1e-12).all()


def test_silence_has_no_colour_and_what_the_gamut_costs_is_told_for_each_picture():
    gray = torch.tensor([0.0, 0.02, 0.5]).view(3, 1, 1, 1).expand(3, 1, 8, 8)
    color = torch.tensor([0.2, -0.1, -0.1]).view(1, 3, 1, 1).expand(3, 3, 8, 8)
    colored = color_spectrogram(gray, color)
    assert (colored.pixels[0] == 0).all()
    torch.testing.assert_close(colored.lost, torch.tensor([1.0, 1 - 5 / 25.5, 0.0]), atol=1e-6, rtol=0)  # at 0.02 five whole levels fit
    assert color_spectrogram(gray, torch.zeros_like(color)).lost.tolist() == [0, 0, 0]


def test_a_colour_that_does_not_fit_gets_paler_and_never_changes_the_gray():
    generator = torch.Generator().manual_seed(0)
    gray = torch.rand(4, 1, 8, 8, generator=generator)
    gray[0, 0, 0, 0], gray[0, 0, 0, 1] = 0.0, 1.0
    color = split_gray(torch.randn(4, 3, 8, 8, generator=generator))[1]
    pictures = within_gamut(gray, color)
    kept = split_gray(pictures)
    torch.testing.assert_close(kept[0], gray, atol=1e-6, rtol=0)
    assert pictures.min() >= -1e-6 and pictures.max() <= 1 + 1e-6
    assert kept[1][0, :, 0, :2].abs().max() < 1e-6
    inside = kept[1].norm(dim=1) > 1e-3
    assert torch.cosine_similarity(kept[1], color, dim=1)[inside].min() > 0.999
    faint, middling = 1e-3 * color, (gray > 0.1) & (gray < 0.9)
    torch.testing.assert_close(within_gamut(gray, faint) * middling, (gray + faint) * middling)


def test_the_projection_replaces_gray_and_nothing_else():
    pixels, gray = colors(torch.empty(2, 1, 4, 4), 1.0), torch.rand(2, 1, 4, 4)
    kept_gray, kept_color = split_gray(with_gray(pixels, gray))
    torch.testing.assert_close(kept_gray, gray)
    torch.testing.assert_close(kept_color, split_gray(pixels)[1])


def test_enlarged_colour_is_as_saturated_on_a_fine_line_as_around_it_and_absent_in_a_dark_gap():
    coarse = torch.full((1, 1, 4, 4), 0.4)
    color = coarse * torch.tensor([0.5, 0.0, -0.5]).view(1, 3, 1, 1)
    gray = torch.full((1, 1, 16, 16), 0.4)
    gray[..., 6, :], gray[..., 9, :] = 0.8, 0.0
    enlarged = enlarge_color(color, coarse, gray)
    torch.testing.assert_close(enlarged[0, :, 2, 2], color[0, :, 0, 0])
    torch.testing.assert_close(enlarged[0, :, 6, 5], 2 * color[0, :, 0, 0])
    assert enlarged[0, :, 9].abs().max() == 0
    assert enlarge_color(color, torch.zeros_like(coarse), gray).isfinite().all()
