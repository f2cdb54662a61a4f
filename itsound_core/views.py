"""Views: what one expert sees of a canvas that another expert sees as it is (paper section 3.2).

A view is an object with two methods, each the other's inverse: `view` before the expert predicts, `inverse_view` on what it predicts.
It only moves latents about, so noise stays noise of the same variance and a noise estimate may be moved back like a picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .spectrogram import AUFFUSION, RIFFUSION, SpectrogramFormat


class View(Protocol):
    """A bijection of latents, (..., H, W) -> (..., H', W')."""

    def view(self, latents: Tensor) -> Tensor:
        """The canvas as the expert sees it."""
        ...

    def inverse_view(self, estimate: Tensor) -> Tensor:
        """The expert's estimate as it lies on the canvas."""
        ...


@dataclass(frozen=True)
class Identity:
    """The expert sees the canvas as it is: every published example of the paper."""

    def view(self, latents: Tensor) -> Tensor:
        return latents

    def inverse_view(self, estimate: Tensor) -> Tensor:
        return estimate


@dataclass(frozen=True)
class BlockRearrangement:
    """Cut the canvas into equal blocks and lay them out in another grid; both grids are (rows, columns), read row by row.

    Raises ValueError when the grids hold different numbers of blocks and, on use, when a size does not divide into the grid.
    """

    canvas_grid: tuple[int, int]
    view_grid: tuple[int, int]

    def __post_init__(self) -> None:
        blocks = math.prod(self.canvas_grid)
        if blocks != math.prod(self.view_grid):
            raise ValueError(f"Grids {self.canvas_grid} and {self.view_grid} hold {blocks} and {math.prod(self.view_grid)} blocks.")

    def view(self, latents: Tensor) -> Tensor:
        return _join(_cut(latents, self.canvas_grid), self.view_grid)

    def inverse_view(self, estimate: Tensor) -> Tensor:
        return _join(_cut(estimate, self.view_grid), self.canvas_grid)


def _cut(latents: Tensor, grid: tuple[int, int]) -> Tensor:
    """(..., rows * h, columns * w) -> (..., rows * columns, h, w)."""
    rows, columns = grid
    height, width = latents.shape[-2:]
    if height % rows or width % columns:
        raise ValueError(f"A canvas of {height} x {width} does not divide into {rows} x {columns} blocks.")
    blocks = latents.unflatten(-1, (columns, width // columns)).unflatten(-3, (rows, height // rows))
    return blocks.transpose(-3, -2).flatten(-4, -3)


def _join(blocks: Tensor, grid: tuple[int, int]) -> Tensor:
    """(..., rows * columns, h, w) -> (..., rows * h, columns * w)."""
    return blocks.unflatten(-3, grid).transpose(-3, -2).flatten(-2, -1).flatten(-3, -2)


IDENTITY = Identity()
HALVES_END_TO_END = BlockRearrangement(canvas_grid=(2, 1), view_grid=(1, 2))
"""A square picture whose upper and lower half, end to end, are a sound: 512 x 512 pixels seen as 256 x 1024."""

VIEWS: dict[str, View] = {"none": IDENTITY, "two-row square": HALVES_END_TO_END, "Riffusion": IDENTITY}
"""The audio model's views by name."""

FORMATS: dict[str, SpectrogramFormat] = {"none": AUFFUSION, "two-row square": AUFFUSION, "Riffusion": RIFFUSION}
"""The format of what the audio model sees through the view of that name."""

AS_IT_SOUNDS = tuple(name for name, view in VIEWS.items() if view is IDENTITY)
"""Views whose canvas runs from left to right as its sound does."""


def canvas_rows(view: View) -> int:
    """How many rows of the sound lie below each other on a canvas of this view: 2 of the two-row square, else 1."""
    return view.inverse_view(torch.empty(2, 2)).shape[0] // 2


def canvas_height(name: str) -> int:
    """Pixel rows of a canvas of the view of that name."""
    return canvas_rows(VIEWS[name]) * FORMATS[name].n_mels
