"""The cycle check: levels as they are, silence without NaN."""

import math

import pytest
import torch

from itsound_core.cycle import cycle_consistency, level_db
from itsound_core.spectrogram import AUFFUSION, waveform_to_picture

NOISE = 0.1 * torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))


def test_a_waveforms_own_picture_is_consistent():
    cycle = cycle_consistency(waveform_to_picture(NOISE), NOISE)
    assert cycle.error_db.tolist() == [0.0, 0.0]
    assert cycle.correlation.tolist() == pytest.approx([1.0, 1.0])
    assert cycle.band_error_db.shape == (2, 256)


def test_half_the_level_is_six_decibels_in_every_band():
    cycle = cycle_consistency(waveform_to_picture(NOISE), NOISE / 2)
    assert cycle.error_db.tolist() == pytest.approx([20 * math.log10(2)] * 2, abs=0.01)
    assert cycle.band_error_db.min() > 5.9
    assert cycle.correlation.tolist() == pytest.approx([1.0, 1.0], abs=1e-3)


def test_bands_run_from_high_to_low_frequencies():
    picture = waveform_to_picture(NOISE)
    picture[:, 0] = 0.0
    assert cycle_consistency(picture, NOISE).band_error_db.argmax(1).tolist() == [0, 0]


def test_the_other_sound_is_less_correlated():
    assert (cycle_consistency(waveform_to_picture(NOISE), NOISE.flip(0)).correlation < 0.6).all()


def test_silence_has_no_nan():
    cycle = cycle_consistency(torch.zeros(1, 256, 50), torch.zeros(1, 8000))
    assert (cycle.error_db.item(), cycle.correlation.item()) == (0.0, 0.0)


def test_frames_that_both_have_are_compared():
    cycle = cycle_consistency(waveform_to_picture(NOISE)[..., :30], NOISE)
    assert cycle.picture.shape == (2, 256, 30)
    assert cycle.error_db.tolist() == [0.0, 0.0]
    assert AUFFUSION.hop_length * 50 == NOISE.shape[1]


def test_the_level_is_the_gain_between_sound_and_picture() -> None:
    picture = waveform_to_picture(NOISE)
    assert level_db(picture, NOISE / 2).tolist() == pytest.approx([-6.02] * len(NOISE), abs=0.05)
    assert level_db(picture, NOISE).tolist() == pytest.approx([0.0] * len(NOISE), abs=0.01)


def test_silence_has_no_level() -> None:
    silence = torch.zeros(1, 8000)
    assert level_db(torch.zeros(1, 256, 50), NOISE[:1, :8000]).tolist() == [0.0]
    assert level_db(torch.full((1, 256, 50), 0.5), silence).tolist() == [0.0]
