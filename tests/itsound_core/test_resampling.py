"""The resampler: pieces are the whole, and every rate comes out as it should."""

import math

import pytest
import torch

import itsound_core.resampling as module
from itsound_core.resampling import resample


def sweep(rate: int, highest: float, seconds: float = 3.3) -> torch.Tensor:
    """A sine (1, T) from 20 Hz to `highest`, written at any rate; half as loud as can be."""
    time = torch.arange(math.ceil(seconds * rate), dtype=torch.float64) / rate
    return 0.5 * torch.sin(2 * math.pi * (20 * time + (highest - 20) * time.square() / (2 * seconds))).float()[None]


def decibels(value: torch.Tensor) -> float:
    return 20 * math.log10(float(value.abs().max()) / 0.5)


@pytest.mark.parametrize(("rate", "target"), [(44100, 16000), (8000, 16000), (16000, 48000)])
def test_a_long_recording_resampled_in_pieces_is_the_one_resampled_at_once(rate, target, monkeypatch):
    recording = torch.randn(2, round(3.3 * rate), generator=torch.Generator().manual_seed(0))
    whole = resample(recording, rate, target)
    monkeypatch.setattr(module, "PIECE_SECONDS", 1)
    steps = []
    assert torch.equal(resample(recording, rate, target, lambda *step: steps.append(step)), whole)
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("rate", "target", "below"),
    [
        *[(rate, 16000, -115) for rate in (1009, 7999, 44101, 47981, 47999, 96001)],
        *[(15991, 48000, -115), (44101, 48000, -115), (44100, 16000, -85), (8000, 16000, -85)],
    ],
)
def test_a_sweep_comes_out_as_it_would_have_been_written_at_the_other_rate(rate, target, below):
    highest = 0.45 * min(rate, target)
    found, meant = resample(sweep(rate, highest), rate, target), sweep(target, highest)
    assert found.shape[-1] == math.ceil(math.ceil(3.3 * rate) * target / rate)
    inner = slice(target // 2, meant.shape[-1] - target // 2)  # a sweep that begins and ends at once has more than its frequencies there
    assert decibels(found[:, inner] - meant[:, inner]) < below


@pytest.mark.parametrize("rate", [47999, 96001])
def test_what_the_lower_rate_cannot_hold_is_not_folded_into_it(rate):
    tone = 0.5 * torch.sin(2 * math.pi * 8200 * torch.arange(3 * rate, dtype=torch.float64) / rate).float()[None]
    assert decibels(resample(tone, rate, 16000)[:, 16000:-16000]) < -80


@pytest.mark.parametrize(("rate", "target"), [(47999, 16000), (7999, 16000), (44101, 48000)])
def test_rates_without_common_factors_need_no_large_table_and_go_in_pieces(rate, target, monkeypatch):
    """A table of the sinc has 128 values for each of the rate's hertz: 6 million for 47 999 Hz."""
    monkeypatch.setattr(module.scipy.signal, "firwin", lambda *_, **__: pytest.fail("a sinc was tabulated"))
    recording = torch.randn(2, round(3.3 * rate), generator=torch.Generator().manual_seed(0))
    whole = resample(recording, rate, target)
    monkeypatch.setattr(module, "PIECE_SECONDS", 1)
    steps = []
    in_pieces = resample(recording, rate, target, lambda *step: steps.append(step))
    assert decibels(in_pieces - whole) < -100
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
