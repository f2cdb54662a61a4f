"""The resampler: pieces are the whole."""

import pytest
import torch

import itsound_core.resampling as module
from itsound_core.resampling import resample


@pytest.mark.parametrize(("rate", "target"), [(44100, 16000), (8000, 16000), (16000, 48000)])
def test_a_long_recording_resampled_in_pieces_is_the_one_resampled_at_once(rate, target, monkeypatch):
    recording = torch.randn(2, round(3.3 * rate), generator=torch.Generator().manual_seed(0))
    whole = resample(recording, rate, target)
    monkeypatch.setattr(module, "PIECE_SECONDS", 1)
    steps = []
    assert torch.equal(resample(recording, rate, target, lambda *step: steps.append(step)), whole)
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
