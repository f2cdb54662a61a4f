"""Linear magnitudes from mel magnitudes, by non-negative least squares: what Griffin-Lim and the third way in `vocoder` begin with."""

from __future__ import annotations

import torch
from torch import Tensor

from .spectrogram import AUFFUSION, SpectrogramFormat, mel_filters

TINY = 1e-30


class MelInversion:
    """Non-negative least squares from mel magnitude (B, n_mels, frames) to linear magnitude (B, bins, frames) by filters (n_mels, bins).

    Minimises sum(w (M s - m)^2) over s >= 0 by multiplicative updates (Lee and Seung, NIPS 2000), which keep the shape of their starting
    point inside each band: 256 bands do not determine a thousand bins. The weights w make errors relative, so that quiet bands count as in
    a log-mel picture: relative to a band's level with its neighbours' overlap, because no band can be quieter than that. (Relative to
    m alone, a thin line on black would be dropped for the sake of the black bands beside it.) The filters lie on the host, mel anywhere.
    """

    def __init__(self, mel: Tensor, filters: Tensor, floor: float) -> None:
        # The blocks are found on the host, where the filters are made: on a GPU, each would have to be waited for.
        self._blocks = [(rows, bins, block.to(mel.device)) for rows, bins, block in _blocks(filters)]
        filters = filters.to(mel.device)
        self._bins = filters.shape[1]
        # The floor of a log-mel stands for everything below it. Bands at the floor are asked to be silent, so that silence gives silence.
        mel = torch.where(mel > floor * (1.0 + 1e-4), mel, 0.0)
        self.start = self._to_bins(mel / filters.sum(1)[:, None]) / filters.sum(0)[:, None].clamp(min=TINY)
        """Each band spread over its bins: a first guess, smooth along frequency."""
        self._weights = self._to_bands(self.start).clamp(min=floor).pow(-2.0)
        self._target = self._to_bins(mel * self._weights)

    def fit(self, magnitude: Tensor, iterations: int) -> Tensor:
        """`magnitude` (B, bins, frames) moved towards the mel magnitude; 10 iterations from `start` are close to converged."""
        for _ in range(iterations):
            explained = self._to_bins(self._to_bands(magnitude).mul_(self._weights))
            magnitude = magnitude * torch.div(self._target, explained.clamp_(min=TINY), out=explained)
        return magnitude

    # The products are taken on transposes to keep frames outermost in memory, as the Fourier transforms have them.
    def _to_bands(self, magnitude: Tensor) -> Tensor:
        return torch.cat([magnitude.mT[..., bins] @ block.T for _, bins, block in self._blocks], dim=-1).mT

    def _to_bins(self, bands: Tensor) -> Tensor:
        result = bands.new_zeros(bands.shape[0], bands.shape[2], self._bins)
        for rows, bins, block in self._blocks:
            result[..., bins] += bands.mT[..., rows] @ block
        return result.mT


def _blocks(filters: Tensor, rows: int = 32) -> list[tuple[slice, slice, Tensor]]:
    """(rows, bins, filters[rows, bins]) that hold everything but zeros: each mel filter spans few bins, so most products are with zero."""
    blocks = []
    for start in range(0, filters.shape[0], rows):
        band = slice(start, start + rows)
        used = filters[band].any(0).nonzero()
        bins = slice(int(used.min()), int(used.max()) + 1)
        blocks.append((band, bins, filters[band, bins]))
    return blocks


def mel_to_magnitude(mel: Tensor, fmt: SpectrogramFormat = AUFFUSION, iterations: int = 10) -> Tensor:
    """Linear magnitude (B, n_fft / 2 + 1, frames) of a mel magnitude (B, n_mels, frames), by non-negative least squares."""
    inversion = MelInversion(mel, mel_filters(fmt), fmt.log_floor)
    return inversion.fit(inversion.start, iterations)
