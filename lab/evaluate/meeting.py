"""Experts of unlike spaces sampled together: their x0 estimates meet in pixels.

Each side keeps a sample x0 + sigma n of its own, in its own space and with noise of its own. Where sides meet, their estimates are decoded,
the weighted mean of the grays is taken, and each estimate is corrected by what that changed: x0 + E(mean) - E(own), so that what a VAE
loses does not pile up. Then each takes its own DDIM step. It is synchronised diffusion, averaged in x0 (SyncTweedies, Kim et al. 2024,
arXiv 2403.14370), between models instead of views of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from itsound_core.colorize import split_gray, within_gamut
from itsound_core.composition import Expert, mixing_weights
from itsound_core.pixels import RGB
from itsound_core.sampling import STABLE_DIFFUSION

Codec = Callable[[Tensor], Tensor]


class Side(Protocol):
    """A model and its space.

    expert: predicts noise at timesteps of `alphas_cumprod`, its own schedule; when it sets in is a timestep of Stable Diffusion's.
    size: height and width of its pictures.
    """

    @property
    def expert(self) -> Expert: ...
    @property
    def alphas_cumprod(self) -> Tensor: ...
    @property
    def size(self) -> tuple[int, int]: ...

    def gray(self, x0: Tensor) -> Tensor:
        """The picture (B, 1, H, W) that an estimate shows, clamped to -1..1."""
        ...

    def corrected(self, x0: Tensor, own: Tensor, mean: Tensor) -> Tensor:
        """The estimate whose gray was `own`, changed by what the mean changed."""
        ...

    def taken(self, mean: Tensor) -> Tensor:
        """The estimate of a side that has no say yet: the picture of those that have."""
        ...


@dataclass(frozen=True)
class LatentSide:
    """A model of latents. decode: latents -> pixels (B, 3, H, W), about -1..1; encode: pixels in -1..1 -> latents, their mode."""

    expert: Expert
    decode: Codec
    encode: Codec
    size: tuple[int, int] = (256, 1024)
    alphas_cumprod: Tensor = STABLE_DIFFUSION.alphas_cumprod

    def gray(self, x0: Tensor) -> Tensor:
        return split_gray(self.decode(x0))[0].clamp(-1, 1)

    def corrected(self, x0: Tensor, own: Tensor, mean: Tensor) -> Tensor:
        return x0 if mean is own else x0 + self.taken(mean) - self.taken(own)

    def taken(self, mean: Tensor) -> Tensor:
        return self.encode(mean.expand(-1, RGB, -1, -1))


@dataclass(frozen=True)
class PixelSide:
    """A model of colour pixels (B, 3, H, W) in -1..1. Its x0 is held there, or it diverges: where colour does not fit, it is paler."""

    expert: Expert
    alphas_cumprod: Tensor
    size: tuple[int, int] = (64, 256)

    def gray(self, x0: Tensor) -> Tensor:
        return split_gray(x0.clamp(-1, 1))[0]

    def corrected(self, x0: Tensor, own: Tensor, mean: Tensor) -> Tensor:
        return 2 * within_gamut(mean / 2 + 0.5, split_gray(x0.clamp(-1, 1))[1] / 2) - 1

    def taken(self, mean: Tensor) -> Tensor:
        return mean.expand(-1, RGB, -1, -1)


@dataclass(frozen=True)
class Met:
    """What came of a meeting, for each side: x0 in its space, and its gray (B, 1, H, W) before and after; none before without a say."""

    x0: list[Tensor]
    before: list[Tensor | None]
    after: list[Tensor]


@torch.no_grad()
def meet(sides: Sequence[Side], noises: Sequence[Tensor], steps: int, every: int = 1, hold: bool = False) -> Met:
    """Sample all sides from unit noise of their spaces' shapes, by DDIM over Stable Diffusion's noise levels; returns the last meeting.

    every: they meet at each so manieth step from the first on, and at the last; between, each goes its own way, or with `hold` keeps what
    the last meeting corrected of its estimate. Who has no say yet is not evaluated and takes the others' picture at every step. Raises
    ValueError when none has a say.
    """
    intervals = STABLE_DIFFUSION.intervals(steps)
    samples = [noise * math.hypot(1.0, STABLE_DIFFUSION.sigma(intervals[0][0])) for noise in noises]
    met, kept = Met([], [], []), [0.0] * len(sides)  # corrections, tensors once there are some
    for step, (timestep, following) in enumerate(intervals):
        sigma, after = STABLE_DIFFUSION.sigma(timestep), STABLE_DIFFUSION.sigma(following)
        weights = mixing_weights([side.expert for side in sides], timestep)
        x0 = [estimated(side, sample, sigma) if weight else sample for side, sample, weight in zip(sides, samples, weights, strict=True)]
        if step % every == 0 or step == steps - 1 or not all(weights):
            met = met_in_pixels(sides, x0, weights)
            kept = [corrected - own if weight else 0.0 for corrected, own, weight in zip(met.x0, x0, weights, strict=True)]
            x0 = met.x0
        elif hold:
            x0 = [estimate + change for estimate, change in zip(x0, kept, strict=True)]
        samples = [estimate + after / sigma * (sample - estimate) for sample, estimate in zip(samples, x0, strict=True)]
    return met


def estimated(side: Side, sample: Tensor, sigma: float) -> Tensor:
    """The side's x0 estimate of x0 + sigma n, by the timestep of its own schedule where the noise is as strong."""
    levels = ((1 - side.alphas_cumprod) / side.alphas_cumprod).log().numpy() / 2
    timestep = torch.tensor(float(np.interp(math.log(sigma), levels, np.arange(len(levels)))))
    return sample - sigma * side.expert.predict(sample / math.hypot(1.0, sigma), timestep)


def met_in_pixels(sides: Sequence[Side], x0: Sequence[Tensor], weights: Sequence[float]) -> Met:
    """Estimates corrected to the weighted mean gray, at the size of the smallest picture that has a say; finer detail stays its side's."""
    before = [side.gray(estimate) if weight else None for side, estimate, weight in zip(sides, x0, weights, strict=True)]
    coarse = min(side.size for side, weight in zip(sides, weights, strict=True) if weight)
    parts = [weight * resized(own, coarse) for own, weight in zip(before, weights, strict=True) if own is not None]
    mean = torch.stack(parts).sum(dim=0)
    met = Met([], before, [])
    for side, estimate, own in zip(sides, x0, before, strict=True):
        if own is None:
            gray = resized(mean, side.size)
            corrected = side.taken(gray)
        else:
            gray = own if len(parts) == 1 else shifted(own, mean)
            corrected = side.corrected(estimate, own, gray)
        met.x0.append(corrected)
        met.after.append(gray)
    return met


def shifted(own: Tensor, mean: Tensor) -> Tensor:
    """A gray with `mean`, which may be smaller, in place of its own coarse part."""
    coarse, fine = tuple(mean.shape[-2:]), tuple(own.shape[-2:])
    return mean if coarse == fine else (own + resized(mean - resized(own, coarse), fine)).clamp(-1, 1)


def resized(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures (B, C, H, W) made smaller by the mean over areas, or larger bilinearly."""
    return F.interpolate(pictures, size, mode="area" if size < tuple(pictures.shape[-2:]) else "bilinear")
