"""Waveforms from mel magnitudes without a trained vocoder: fast Griffin-Lim."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .mel_inversion import TINY, MelInversion
from .progress import OnStep
from .spectrogram import AUFFUSION, SpectrogramFormat, istft, mel_filters, stft

STEPS_A_REFIT = 2


def _without_zero_padding(fmt: SpectrogramFormat) -> tuple[SpectrogramFormat, Tensor]:
    """Format whose n_fft is the window's length, and its mel filters, which take the bins left out as the means of their neighbours."""
    step = fmt.n_fft // fmt.win_length
    hat = 1.0 - torch.arange(1 - step, step).abs() / step
    filters = F.conv1d(mel_filters(fmt)[:, None], hat[None, None], stride=step, padding=step - 1)[:, 0]
    return replace(fmt, n_fft=fmt.win_length), filters


def griffin_lim(
    mel: Tensor,
    iterations: int = 48,
    seed: int = 0,
    fmt: SpectrogramFormat = AUFFUSION,
    momentum: float = 0.99,
    on_step: OnStep | None = None,
) -> Tensor:
    """Waveform (B, fmt.samples(frames)) with the mel magnitude (B, n_mels, frames), on the device of `mel`.

    Fast Griffin-Lim with momentum (Perraudin, Balazs, Sondergaard, WASPAA 2013). The magnitude is asked for in mel bands only, so every
    second step fits it again from the sound found so far: what a band leaves open follows the phases instead of fighting them. It runs on
    the bins that a Fourier transform of the bare window has, half of them; those that zero-padding adds lie between and follow. The
    starting phases come from `seed` and are the same for every item of a batch. Silence gives silence.
    """
    bare, filters = _without_zero_padding(fmt)
    inversion = MelInversion(mel, filters, fmt.log_floor)
    magnitude = inversion.fit(inversion.start, 5)
    phases = torch.rand(magnitude.mT.shape[1:], generator=torch.Generator().manual_seed(seed)).to(mel.device).mT * (2.0 * math.pi)
    spectrum = torch.polar(magnitude, phases.expand_as(magnitude))
    previous = torch.zeros_like(spectrum)
    for step in range(1, iterations + 1):
        consistent = stft(istft(spectrum, bare), bare)
        if step % STEPS_A_REFIT == 0:
            magnitude = inversion.fit(_power(consistent).sqrt_(), 1)
        # consistent + momentum * (consistent - previous), up to a scale that the next line replaces
        spectrum = torch.sub(consistent, previous, alpha=momentum / (1.0 + momentum), out=previous)
        previous = consistent
        spectrum.mul_(_power(spectrum).clamp_(min=TINY).rsqrt_().mul_(magnitude))
        if on_step:
            on_step(step, iterations)
    return istft(spectrum, bare)


def _power(spectrum: Tensor) -> Tensor:
    """|spectrum|^2; its square root is three times faster than torch's complex abs."""
    return spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
