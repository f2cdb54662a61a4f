"""Examples as a model: the exact denoiser of "one of these examples, somewhere along the canvas", without any training.

For noisy latents z = x + sigma n the mean of x given z is, over examples i and places s (closed-form diffusion: Scarvelis et al.,
arXiv 2310.12395), in each column c,

    x0[c] = sum_{i,s} p_{i,s}[c] X_{i,s}[c],    p[c] = softmax_{i,s}( -|z - X_{i,s}|^2 / (2 sigma^2) ),

the distance taken over the columns within a window around c (locality: Kamb and Ganguli, arXiv 2412.20292). With the whole canvas as its
window the example stays whole and chooses its place; with a short one it is woven anew from its own pieces.

>>> import torch
>>> cat = torch.randn(1, 4, 32, 16, generator=torch.Generator().manual_seed(0))
>>> denoise = ExampleDenoiser([cat])
>>> canvas = cat.repeat(1, 1, 1, 2).roll(5, dims=-1)
>>> bool((denoise(canvas + 0.1 * torch.randn(canvas.shape), torch.tensor(0.1)) - canvas).abs().max() < 1e-5)
True
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK_BYTES = 2**26
"""About how much memory one block of examples and places may take at a time."""
SMALLEST_SIGMA = 1e-6


@dataclass(frozen=True)
class Gaussian:
    """Open space: anything may lie there, of one mean and variance. mean: (C, H), or a number; variance: above 0, broad."""

    mean: Tensor | float
    variance: float

    def energy(self, z: Tensor, variance: Tensor) -> Tensor:
        """(B, W) of z (B, C, H, W) and sigma^2 (B, 1, 1, 1): |z - mu|^2 / (2 (sigma^2 + s2)) + d/2 log((sigma^2 + s2) / sigma^2).

        The logarithm of d = C H values makes places of unequal cover compare.
        """
        total = self.variance + variance[:, 0, 0]
        squared = (z - self._mean(z)).square().sum((1, 2))
        return squared / (2 * total) + math.prod(z.shape[1:3]) / 2 * (total / variance[:, 0, 0]).log()

    def estimate(self, z: Tensor, variance: Tensor) -> Tensor:
        """(B, C, H, W): mu + s2 / (s2 + sigma^2) (z - mu)."""
        mean = self._mean(z)
        return mean + self.variance / (self.variance + variance) * (z - mean)

    def _mean(self, z: Tensor) -> Tensor:
        return torch.as_tensor(self.mean).to(z)[..., None]


EDGE = "edge"
"""Space in which the nearest column of the example goes on."""
Space = Tensor | Gaussian | str


@dataclass(frozen=True)
class ExampleDenoiser:
    """The denoiser of some examples; see the module.

    examples: groups of equal width, (N, C, H, w) each, in the latents' scale. window: columns that stay together around a column, an odd
    number (an even one counts as the next); 0, or no less than the canvas has: the whole canvas. repeat: an example goes on from end to
    end, `gap` columns of space between; else it lies there once, with space to both sides: whole, with the whole canvas as the window
    (of an example longer than the canvas, a part), and else anywhere. space: a column (C, H), EDGE, or a Gaussian. temperature: divides
    all distances; 1 is exact, higher mixes more examples and places.
    """

    examples: Sequence[Tensor]
    window: int = 0
    repeat: bool = True
    gap: int = 0
    space: Space = EDGE
    temperature: float = 1.0

    def __call__(self, latents: Tensor, sigma: Tensor, between: Callable[[], None] = lambda: None) -> Tensor:
        """Estimate x0, as `latents` (B, C, H, W), which are x0 + sigma n; sigma: a number or (B,).

        Computed in double precision. Memory: the examples and one block (BLOCK_BYTES, or one example where that takes more).
        between: called before each block, as to cancel.
        """
        # Apple's GPUs have no double precision; what is lost without it is more than what is left of the distances at small sigmas.
        device = torch.device("cpu") if latents.device.type == "mps" else latents.device
        z = latents.to(device, torch.float64)
        variance = sigma.to(device, torch.float64).expand(len(z)).clamp(min=SMALLEST_SIGMA).square()[:, None, None, None]
        mean = _Mean(z)
        for block in self._blocks(z):
            between()
            templates, covered, places = self._templates(block.to(device, torch.float64), z.shape[-1])
            self._add(mean, z, variance, templates, covered, places)
        return mean.value().to(latents)

    def step_bytes(self, batch: int, columns: int) -> int:
        """About how much memory a step takes beside the examples, on a canvas of so many columns."""
        largest = max(self._block_bytes(group, batch, columns) for group in self.examples)
        return max(BLOCK_BYTES, largest)

    def _blocks(self, z: Tensor) -> Iterator[Tensor]:
        for group in self.examples:
            yield from group.split(max(1, BLOCK_BYTES // self._block_bytes(group, len(z), z.shape[-1])))

    def _block_bytes(self, group: Tensor, batch: int, columns: int) -> int:
        """Of one example: its template, and distances and weights by column, place and template's column in double precision."""
        _, channels, rows, width = group.shape
        length = width + (self.gap if self.repeat else 2 * columns)
        return 8 * length * (channels * rows + 6 * batch * columns)

    def _templates(self, examples: Tensor, columns: int) -> tuple[Tensor, Tensor, Tensor]:
        """Examples with the space around them (N, C, H, L), which of its columns they cover (L,), and which one lies where (columns, S).

        places[c, s]: the template's column that lies at the canvas's column c in place s.
        """
        width, whole = examples.shape[-1], self._whole(columns)
        before, after = (0, self.gap) if self.repeat else (columns - 1, columns - 1)
        pad = [self._space(examples, n, side) for n, side in ((before, 0), (after, -1))]
        if self.repeat and isinstance(self.space, str):  # each end goes on through its half of the gap
            pad[1] = torch.cat([self._space(examples, after - after // 2, -1), self._space(examples, after // 2, 0)], dim=-1)
        templates = torch.cat([pad[0], examples, pad[1]], dim=-1)
        at, length = torch.arange(templates.shape[-1], device=examples.device), templates.shape[-1]
        covered = ((at >= before) & (at < before + width)) | (not isinstance(self.space, Gaussian))
        if self.repeat:
            starts = torch.arange(length, device=examples.device)
        elif whole:
            starts = torch.arange(min(0, columns - width), max(0, columns - width) + 1, device=examples.device)
        else:
            starts = torch.arange(1 - width, columns, device=examples.device)
        places = torch.arange(columns, device=examples.device)[:, None] - starts + before
        return templates, covered, places % length if self.repeat else places

    def _space(self, examples: Tensor, columns: int, side: int) -> Tensor:
        if isinstance(self.space, Gaussian):
            return examples.new_zeros(*examples.shape[:-1], columns)  # never looked at
        column = examples[..., side] if isinstance(self.space, str) else self.space.to(examples).expand(examples.shape[:-1])
        return column[..., None].expand(*examples.shape[:-1], columns)

    def _whole(self, columns: int) -> bool:
        return self.window == 0 or self.window >= columns

    def _add(self, mean: _Mean, z: Tensor, variance: Tensor, templates: Tensor, covered: Tensor, places: Tensor) -> None:
        """Add a block's examples in all their places."""
        batch, (columns, starts), number = len(z), places.shape, len(templates)
        flat_z, flat_x = z.flatten(1, 2), templates.flatten(1, 2)  # (B, CH, W), (N, CH, L)
        product = torch.einsum("bdc,ndu->bncu", flat_z, flat_x)
        squared = flat_z.square().sum(1)[:, None, :, None] + flat_x.square().sum(1)[None, :, None, :] - 2 * product
        energy = squared / (2 * variance)
        if isinstance(self.space, Gaussian):
            energy = torch.where(covered, energy, self.space.energy(z, variance)[:, None, :, None])
        index = places.expand(batch, number, columns, starts)
        score = self._windowed(energy.gather(-1, index)) / -self.temperature
        share = mean.shares(score)  # (B, N, W, S)
        by_column = torch.zeros_like(energy).scatter_(-1, index, share)
        covering = by_column * covered
        values = torch.einsum("bncu,ndu->bdc", covering, flat_x).view_as(z)
        if isinstance(self.space, Gaussian):
            uncovered = (by_column - covering).sum((1, 3))[:, None, None, :]
            values = values + uncovered * self.space.estimate(z, variance)
        mean.add(values, share.sum((1, 3)))

    def _windowed(self, energy: Tensor) -> Tensor:
        """Sum over the columns in the window around each; (B, N, W, S)."""
        columns, radius = energy.shape[2], self.window // 2
        if self._whole(columns):
            return energy.sum(2, keepdim=True).expand_as(energy)
        running = torch.nn.functional.pad(energy.cumsum(2), (0, 0, 1, 0))
        at = torch.arange(columns, device=energy.device)
        return running[:, :, (at + radius + 1).clamp(max=columns)] - running[:, :, (at - radius).clamp(min=0)]


class _Mean:
    """Mean of (B, C, H, W) by column, of weights exp(score) that come block by block: only their ratios to the largest are kept."""

    def __init__(self, like: Tensor) -> None:
        self.largest = like.new_full((len(like), like.shape[-1]), -math.inf)
        self.weight = torch.zeros_like(self.largest)
        self.values = torch.zeros_like(like)

    def shares(self, score: Tensor) -> Tensor:
        """exp(score) (B, N, W, S), as a share of the largest so far."""
        largest = torch.maximum(self.largest, score.amax((1, 3)))
        fade = (self.largest - largest).exp()
        self.largest, self.weight, self.values = largest, self.weight * fade, self.values * fade[:, None, None]
        return (score - largest[:, None, :, None]).exp()

    def add(self, values: Tensor, weight: Tensor) -> None:
        self.values, self.weight = self.values + values, self.weight + weight

    def value(self) -> Tensor:
        return self.values / self.weight[:, None, None]
