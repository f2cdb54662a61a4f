"""Auffusion's log-mel spectrogram, held against librosa and against its own inverse."""

import librosa
import numpy as np
import pytest
import torch

from itsound_core import spectrogram
from itsound_core.spectrogram import (
    AUFFUSION,
    band_frequencies,
    format_at,
    istft,
    limit_peak,
    mel_filters,
    normalize_peak,
    picture_to_log_mel,
    picture_to_mel,
    stft,
    waveform_to_mel,
    waveform_to_picture,
)


@pytest.fixture
def noise():
    return 0.3 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))


def librosa_spectrum(waveform):
    padded = np.pad(waveform.numpy(), (AUFFUSION.padding, AUFFUSION.padding), mode="reflect")
    return librosa.stft(padded, n_fft=2048, hop_length=160, win_length=1024, center=False)


def test_mel_filters_are_librosas():
    expected = librosa.filters.mel(sr=16000, n_fft=2048, n_mels=256, fmin=0.0, fmax=8000.0)
    torch.testing.assert_close(mel_filters(), torch.from_numpy(expected), rtol=1e-5, atol=1e-7)


def test_spectrum_is_librosas(noise):
    torch.testing.assert_close(stft(noise)[1], torch.from_numpy(librosa_spectrum(noise[1])), rtol=1e-4, atol=1e-4)


def test_picture_is_the_clamped_log_of_librosas_mel(noise):
    magnitude = np.sqrt(np.abs(librosa_spectrum(noise[0])) ** 2 + 1e-9)
    mel = librosa.filters.mel(sr=16000, n_fft=2048, n_mels=256) @ magnitude
    expected = (np.log(np.maximum(mel, 1e-5)) - np.log(1e-5)) / (np.log(200.0) - np.log(1e-5))
    torch.testing.assert_close(waveform_to_picture(noise)[0], torch.from_numpy(expected[::-1].copy()).float(), rtol=0, atol=1e-5)


def test_a_hundred_frames_a_second():
    assert waveform_to_picture(torch.zeros(1, 163840)).shape == (1, 256, 1024)


def test_istft_inverts_stft_to_the_edges(noise):
    torch.testing.assert_close(istft(stft(noise)), noise, rtol=0, atol=1e-5)


def test_in_pieces_the_picture_is_the_same(noise, monkeypatch):
    expected = waveform_to_picture(noise)
    for frames in (1, 37, 100):
        monkeypatch.setattr(spectrogram, "FRAMES_AT_A_TIME", frames)
        torch.testing.assert_close(waveform_to_picture(noise), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
def test_at_any_rate_the_format_has_auffusions_bands_and_windows_and_an_exact_inverse(rate):
    fmt = format_at(rate)
    shared = min(fmt.n_mels, AUFFUSION.n_mels)
    torch.testing.assert_close(band_frequencies(fmt)[:shared], band_frequencies()[:shared])
    assert fmt.f_max <= rate / 2 + 1e-6 < band_frequencies(format_at(2 * rate))[fmt.n_mels + 1]
    assert fmt.win_length / rate == pytest.approx(0.064, abs=1 / rate)
    assert fmt.hop_length / rate == pytest.approx(0.01, abs=2 / rate)
    sound = torch.randn(1, 30 * fmt.hop_length, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(istft(stft(sound, fmt), fmt), sound, rtol=0, atol=1e-4)


def test_high_tones_are_at_the_top():
    time = torch.arange(16000) / 16000
    high, low = (waveform_to_picture(torch.sin(2 * torch.pi * hertz * time)[None])[0, :, 50].argmax() for hertz in (6000.0, 200.0))
    assert high < 40 < 230 < low


def test_picture_back_to_mel_is_exact_above_the_floor(noise):
    mel = waveform_to_mel(noise)
    torch.testing.assert_close(picture_to_mel(waveform_to_picture(noise)), mel, rtol=1e-4, atol=1.1e-5)
    torch.testing.assert_close(picture_to_log_mel(waveform_to_picture(noise)).exp(), mel, rtol=1e-4, atol=1.1e-5)


def test_silence_is_black():
    assert not waveform_to_picture(torch.zeros(1, 16000)).any()


def test_normalize_peak_lifts_sound_and_leaves_silence():
    waveform = torch.stack([torch.linspace(-0.1, 0.05, 100), torch.zeros(100)])
    assert normalize_peak(waveform).abs().amax(1).tolist() == pytest.approx([0.95, 0.0])


def test_too_short_a_waveform_is_refused_with_its_length():
    with pytest.raises(ValueError, match="944 samples.*0.059 s"):
        waveform_to_picture(torch.zeros(1, 944))


def test_only_what_goes_beyond_full_scale_is_turned_down(noise):
    quiet = 0.5 * normalize_peak(noise)
    limited = limit_peak(torch.cat([quiet, 10.0 * noise]))
    assert torch.equal(limited[:2], quiet)
    assert limited[2:].abs().amax(-1).tolist() == pytest.approx([0.95, 0.95])
    assert limit_peak(torch.zeros(1, 100)).eq(0).all()
