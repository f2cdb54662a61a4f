"""A picture that is one turn of a loop: what is right of its right edge is its left edge."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def wrap(picture: Tensor, columns: int, centred: bool = False) -> Tensor:
    """Picture (B, n_mels, frames) with `columns` (at most frames) of the neighbouring turns on either side.

    centred: of a format whose sound ends with its last frame; one column more follows, so that the turn is `frames` hops long.
    """
    return F.pad(picture, (columns, columns + centred), mode="circular")


def close_loop(waveform: Tensor, lead: int) -> Tensor:
    """One turn (B, T - 2 lead), whose end goes on into its beginning, of the waveform (B, T) of a wrapped picture; lead in samples.

    What follows the turn is faded into its beginning: in phase where a vocoder made it, and not where Griffin-Lim did.
    """
    turn, following = waveform[:, lead:-lead].clone(), waveform[:, -lead:]
    turn[:, :lead] = crossfade(following, turn[:, :lead])
    return turn


def crossfade(before: Tensor, after: Tensor) -> Tensor:
    """From one sound to another of the same length (B, T). The sum keeps its power whether both are in phase or not."""
    length = after.shape[-1]
    angle = (torch.arange(length, device=after.device) + 0.5) * (0.5 * math.pi / length)
    coherence = F.cosine_similarity(after, before, dim=-1)[:, None]
    power = 1.0 + coherence * (2.0 * angle).sin()  # 0 halfway where the two cancel, which no gain mends
    return (angle.sin() * after + angle.cos() * before) / power.clamp(min=0.5).sqrt()
