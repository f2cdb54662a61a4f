"""Cycle consistency (paper Fig. 6, 7): does the waveform, encoded again, give the spectrogram that was meant?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .progress import OnStep
from .spectrogram import AUFFUSION, SpectrogramFormat, picture_to_log_mel, picture_to_mel, waveform_to_mel, waveform_to_picture


@dataclass(frozen=True)
class CycleConsistency:
    """How far re-encoded waveforms are from the pictures they were made for. Rows and bands run from high to low frequencies."""

    picture: Tensor
    """The waveform as a picture, (B, n_mels, frames), 0..1."""
    error_db: Tensor
    """Mean absolute log-mel difference, (B,), decibels. What is below the format's log_floor counts as there."""
    band_error_db: Tensor
    """The same for each mel band, (B, n_mels), decibels."""
    correlation: Tensor
    """Pearson correlation of the two pictures' values, (B,), -1..1; 0 where one of them is constant."""


def cycle_consistency(
    picture: Tensor, waveform: Tensor, fmt: SpectrogramFormat = AUFFUSION, on_step: OnStep | None = None
) -> CycleConsistency:
    """Compare pictures (B, n_mels, frames) in 0..1 with the waveforms (B, T) at fmt.sample_rate that were made from them.

    Levels are taken as they are, nothing is peak-normalised, but for a format with an exponent, which keeps none. Where one is longer than
    the other, the frames that both have are compared. on_step is called after each piece of the waveform (`waveform_to_picture`). Raises
    ValueError when the waveform is too short for a spectrogram.
    """
    encoded = waveform_to_picture(waveform, fmt, on_step)
    frames = min(picture.shape[-1], encoded.shape[-1])
    meant, encoded = picture[..., :frames].float(), encoded[..., :frames]
    if fmt.exponent is None:
        decibels = (encoded - meant).abs() * (20.0 / math.log(10.0) * fmt.log_range)
    else:
        decibels = (picture_to_log_mel(encoded, fmt) - picture_to_log_mel(meant, fmt)).abs().flip(-2) * (20.0 / math.log(10.0))
    meant_deviation = meant - meant.mean((-2, -1), keepdim=True)
    encoded_deviation = encoded - encoded.mean((-2, -1), keepdim=True)
    norms = meant_deviation.square().sum((-2, -1)).sqrt() * encoded_deviation.square().sum((-2, -1)).sqrt()
    return CycleConsistency(
        picture=encoded,
        error_db=decibels.mean((-2, -1)),
        band_error_db=decibels.mean(-1),
        correlation=(meant_deviation * encoded_deviation).sum((-2, -1)) / norms.clamp(min=torch.finfo(torch.float32).tiny),
    )


def level_db(picture: Tensor, waveform: Tensor, fmt: SpectrogramFormat = AUFFUSION, on_step: OnStep | None = None) -> Tensor:
    """How much louder (+) or quieter (-) waveforms (B, T) are than pictures (B, n_mels, frames) mean them, (B,), decibels.

    The gain that fits the mel magnitudes best in the least-squares sense; 0 where either is silent, and in a format with an exponent,
    which keeps no loudness. on_step is called after each piece of
    the waveform.
    """
    if fmt.exponent is not None:
        return picture.new_zeros(len(picture), dtype=torch.float32)
    heard = waveform_to_mel(waveform, fmt, on_step)
    frames = min(picture.shape[-1], heard.shape[-1])
    meant, heard = picture_to_mel(picture[..., :frames].float(), fmt), heard[..., :frames]
    silent = (picture.amax((-2, -1)) <= 0) | (waveform.abs().amax(-1) <= 0)
    gain = (meant * heard).sum((-2, -1)) / heard.square().sum((-2, -1)).clamp(min=torch.finfo(torch.float32).tiny)
    return torch.where(silent, torch.zeros_like(gain), -20.0 * gain.clamp(min=torch.finfo(torch.float32).tiny).log10())


def change_level(waveform: Tensor, decibels: Tensor) -> Tensor:
    """Waveforms (B, T) made louder (+) or quieter (-) by decibels (B,)."""
    return waveform * (10.0 ** (decibels / 20.0))[:, None]
