"""The vocoder's training: what it is compared with, and that the exported weights are the trained ones."""

import math

import torch

from itsound_core.spectrogram import log_mel_to_picture, picture_to_log_mel, waveform_to_mel
from itsound_core.vocoder import load_vocoder
from lab.train import train_vocoder  # noqa: E402


def test_the_exported_vocoder_is_the_averaged_one_and_keeps_silence(tmp_path):
    vocoder = train_vocoder.trainable(train_vocoder.SHAPE)
    train_vocoder.start_as_filterbank(vocoder)
    (tmp_path / "vocoder").mkdir()
    state = {"shape": train_vocoder.SHAPE, "average": vocoder.state_dict(), "step": 1}
    torch.save(state, tmp_path / "vocoder" / "checkpoint.pt")
    train_vocoder.export(tmp_path, tmp_path / "exported")
    log_mel = picture_to_log_mel(torch.rand(1, 256, 20))
    with torch.inference_mode():
        exported = load_vocoder(tmp_path / "exported")
        torch.testing.assert_close(exported(log_mel), vocoder(log_mel), atol=2e-3, rtol=0)
        assert exported(picture_to_log_mel(torch.zeros(1, 256, 20)))[:, 640:-640].abs().max() < 1e-4


def test_a_picture_brighter_than_full_scale_is_brought_down_and_others_are_left_alone():
    noise = 0.2 * torch.randn(1, 32000, generator=torch.Generator().manual_seed(0))
    quiet = waveform_to_mel(noise).log()
    torch.testing.assert_close(train_vocoder.reachable(quiet - 1), quiet - 1)
    white = picture_to_log_mel(torch.ones(1, 256, 64))
    level = (train_vocoder.reachable(white) - quiet.mean()).mean()
    assert abs(level - math.log(train_vocoder.FULL_SCALE_RMS / 0.2)) < 1.0


def test_the_starting_filterbank_sounds_where_the_picture_is_bright_and_is_silent_where_it_is_black():
    vocoder = train_vocoder.trainable(train_vocoder.SHAPE)
    train_vocoder.start_as_filterbank(vocoder)
    picture = torch.zeros(1, 256, 64)
    picture[:, 100:108, 32:] = 0.7
    with torch.inference_mode():
        waveform = vocoder(picture_to_log_mel(picture))
    encoded = log_mel_to_picture(train_vocoder.log_mel_of(waveform))[0]
    assert waveform[:, : 160 * 25].abs().max() < 1e-4
    bright, others = encoded[100:108, 40:60].mean(), encoded[:80, 40:60].mean()
    assert 0.5 < bright < 0.9
    assert others < 0.3
