"""One resampler for every rate."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.signal
import torch
from torch import Tensor

from .progress import OnStep

REACH = 64
"""Zero crossings of the sinc on either side, at the lower rate."""
PIECE_SECONDS = 20
"""Seconds of a recording at work at a time: about half a second of work for a channel at 44.1 kHz."""
LARGEST_TERM = 1000
"""Of the rates' ratio in lowest terms, up to which the sinc is tabulated; 44 100 and 48 000 Hz stay below. For 47 999 Hz the table alone
would take seconds and 800 MB."""
MARGIN_SECONDS = 1
"""What a piece needs of its neighbours where spectra are cut: the cut is a taper, which rings for far less."""
FLAT = 0.93
"""Share of the lower rate's half up to which a spectrum is kept as it is; it is tapered to zero at all of it."""


def resample(
    samples: Tensor, rate: int, target: int, on_step: OnStep | None = None, mix: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Samples (..., T) at `rate` Hz to (..., ceil(T x target / rate)) at `target` Hz, on the CPU.

    mix: makes other samples (..., T) of them first, as one channel of two, a stretch at a time: of an hour, all of them are never there.

    Kaiser-windowed sinc: even to 93 % of the lower rate's half, 80 dB down beyond 101 %. Rates with few common factors, whose ratio has a
    term beyond LARGEST_TERM, are resampled by cutting or padding the spectrum: even to 93 %, nothing from 100 % on, and exact in time.
    Against sweeps to 90 % of the lower rate's half written at both rates (7999, 44 101, 47 981, 47 999, 96 001 Hz to 16 kHz, 15 991 Hz to
    48 kHz) the largest error is 118 dB below the signal by the spectrum, and 86 dB by the sinc. It goes in pieces, each with the neighbours
    that reach into it; on_step is called after each.
    """
    mix = mix or (lambda heard: heard)
    if rate == target:
        return mix(samples)
    up, down = target // math.gcd(rate, target), rate // math.gcd(rate, target)
    # Pieces begin where samples of both rates meet: every `down` of the one and `up` of the other.
    if max(up, down) > LARGEST_TERM:
        convert, length, margin = _Spectrum(rate, target), PIECE_SECONDS * rate, MARGIN_SECONDS * rate
    else:
        convert = _Sinc(up, down)
        length = down * math.ceil(PIECE_SECONDS * rate / down)
        margin = down * (math.ceil(REACH * max(up, down) / up / down) + 1)
    starts = range(0, samples.shape[-1], length)
    pieces = []
    for done, start in enumerate(starts, 1):
        first = max(start - margin, 0)
        piece = convert(mix(samples[..., first : start + length + margin]))
        pieces.append(piece[..., (start - first) // down * up :][..., : length // down * up])
        if on_step:
            on_step(done, len(starts))
    return torch.cat(pieces, dim=-1)


class _Sinc:
    """(..., T) to (..., ceil(T x up / down)) by a tabulated sinc."""

    def __init__(self, up: int, down: int) -> None:
        self.up, self.down = up, down
        lowpass = scipy.signal.firwin(2 * REACH * max(up, down) + 1, 0.97 / max(up, down), width=0.08 / max(up, down))
        self.window = np.asarray(lowpass, np.float32)

    def __call__(self, samples: Tensor) -> Tensor:
        return torch.from_numpy(scipy.signal.resample_poly(samples.numpy(), self.up, self.down, axis=-1, window=self.window))


class _Spectrum:
    """(..., T) to (..., ceil(T x target / rate)) by the spectrum of whole seconds, which are whole samples of both rates."""

    def __init__(self, rate: int, target: int) -> None:
        self.rate, self.target = rate, target

    def __call__(self, samples: Tensor) -> Tensor:
        length = math.ceil(samples.shape[-1] * self.target / self.rate)
        seconds = math.ceil(samples.shape[-1] / self.rate) + MARGIN_SECONDS  # of silence: the spectrum takes the end to meet the beginning
        spectrum = torch.fft.rfft(samples, n=seconds * self.rate)[..., : seconds * self.target // 2 + 1]
        share = torch.arange(spectrum.shape[-1], device=samples.device) / seconds / (min(self.rate, self.target) / 2)
        taper = (1 + torch.cos(math.pi * ((share - FLAT) / (1 - FLAT)).clamp(0, 1))) / 2
        return torch.fft.irfft(spectrum * taper * (self.target / self.rate), n=seconds * self.target)[..., :length]
