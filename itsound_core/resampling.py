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


def resample(
    samples: Tensor, rate: int, target: int, on_step: OnStep | None = None, mix: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Samples (..., T) at `rate` Hz to (..., ceil(T x target / rate)) at `target` Hz, on the CPU.

    mix: makes other samples (..., T) of them first, as one channel of two, a stretch at a time: of an hour, all of them are never there.

    Kaiser-windowed sinc: even to 93 % of the lower rate's half, 80 dB down beyond 101 %. It goes in pieces, each with the neighbours that
    the sinc reaches; on_step is called after each.
    """
    mix = mix or (lambda heard: heard)
    if rate == target:
        return mix(samples)
    up, down = target // math.gcd(rate, target), rate // math.gcd(rate, target)
    lowpass = scipy.signal.firwin(2 * REACH * max(up, down) + 1, 0.97 / max(up, down), width=0.08 / max(up, down))
    window = np.asarray(lowpass, np.float32)
    # Pieces begin where samples of both rates meet: every `down` of the one and `up` of the other.
    length = down * math.ceil(PIECE_SECONDS * rate / down)
    margin = down * (math.ceil(REACH * max(up, down) / up / down) + 1)
    starts = range(0, samples.shape[-1], length)
    pieces = []
    for done, start in enumerate(starts, 1):
        first = max(start - margin, 0)
        heard = mix(samples[..., first : start + length + margin]).numpy()
        piece = torch.from_numpy(scipy.signal.resample_poly(heard, up, down, axis=-1, window=window))
        pieces.append(piece[..., (start - first) // down * up :][..., : length // down * up])
        if on_step:
            on_step(done, len(starts))
    return torch.cat(pieces, dim=-1)
