"""Waveforms from mel magnitudes without a trained vocoder: non-negative least squares, then fast Griffin-Lim."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .spectrogram import AUFFUSION, SpectrogramFormat, istft, mel_filters, stft

OnStep = Callable[[int, int], None]
"""Called with (steps done, steps in all) after each step; what it raises ends the loop."""

TINY = 1e-20


class MelInversion:
    """Non-negative least squares from mel magnitude (B, n_mels, frames) to linear magnitude (B, n_fft / 2 + 1, frames).

    Minimises sum(w (M s - m)^2) over s >= 0 by multiplicative updates (Lee and Seung, NIPS 2000), which keep the shape of their starting
    point inside each band: 256 bands do not determine 1025 bins. The weights w make errors relative, so that quiet bands count as they do
    in a log-mel picture: relative to a band's level with its neighbours' overlap, because no band can be quieter than that. (Relative to m
    alone, a thin line on black would be dropped for the sake of the black bands beside it.)
    """

    def __init__(self, mel: Tensor, fmt: SpectrogramFormat = AUFFUSION) -> None:
        self._filters = mel_filters(fmt, mel.device)
        # The floor of a log-mel stands for everything below it. Bands at the floor are asked to be silent, so that silence gives silence.
        mel = torch.where(mel > fmt.log_floor * (1.0 + 1e-4), mel, 0.0)
        self.start = self._to_bins(mel / self._filters.sum(1)[:, None]) / self._filters.sum(0)[:, None].clamp(min=TINY)
        """Each band spread over its bins: a first guess, smooth along frequency."""
        self._weights = self._to_bands(self.start).clamp(min=fmt.log_floor).pow(-2.0)
        self._target = self._to_bins(mel * self._weights)

    def fit(self, magnitude: Tensor, iterations: int) -> Tensor:
        """`magnitude` (B, n_fft / 2 + 1, frames) moved towards the mel magnitude; 10 iterations from `start` are close to converged."""
        for _ in range(iterations):
            explained = self._to_bins(self._to_bands(magnitude).mul_(self._weights))
            magnitude = magnitude * torch.div(self._target, explained.clamp_(min=TINY), out=explained)
        return magnitude

    # The products are taken on transposes to keep frames outermost in memory, as the Fourier transforms have them.
    def _to_bands(self, bins: Tensor) -> Tensor:
        return (bins.mT @ self._filters.T).mT

    def _to_bins(self, bands: Tensor) -> Tensor:
        return (bands.mT @ self._filters).mT


def mel_to_magnitude(mel: Tensor, fmt: SpectrogramFormat = AUFFUSION, iterations: int = 10) -> Tensor:
    """Linear magnitude (B, n_fft / 2 + 1, frames) of a mel magnitude (B, n_mels, frames), by non-negative least squares."""
    inversion = MelInversion(mel, fmt)
    return inversion.fit(inversion.start, iterations)


def griffin_lim(
    mel: Tensor,
    iterations: int = 32,
    seed: int = 0,
    fmt: SpectrogramFormat = AUFFUSION,
    momentum: float = 0.99,
    on_step: OnStep | None = None,
) -> Tensor:
    """Waveform (B, frames * hop) with the mel magnitude (B, n_mels, frames), on the device of `mel`.

    Fast Griffin-Lim with momentum (Perraudin, Balazs, Sondergaard, WASPAA 2013). The magnitude is asked for in mel bands only, so each step
    fits it again from the sound found so far: what a band leaves open follows the phases instead of fighting them. The starting phases come
    from `seed` and are the same for every item of a batch. Silence gives silence.
    """
    inversion = MelInversion(mel, fmt)
    magnitude = inversion.fit(inversion.start, 10)
    phases = torch.rand(magnitude.mT.shape[1:], generator=torch.Generator().manual_seed(seed)).to(mel.device).mT * (2.0 * math.pi)
    spectrum = torch.polar(magnitude, phases.expand_as(magnitude))
    previous = torch.zeros_like(spectrum)
    for step in range(iterations):
        consistent = stft(istft(spectrum, fmt), fmt)
        if step:
            magnitude = inversion.fit(consistent.abs(), 1)
        spectrum = previous.mul_(-momentum).add_(consistent, alpha=1.0 + momentum)
        previous = consistent
        scale = spectrum.abs().clamp_(min=TINY)
        torch.view_as_real(spectrum).mul_(torch.div(magnitude, scale, out=scale)[..., None])
        if on_step:
            on_step(step + 1, iterations)
    return istft(spectrum, fmt)
