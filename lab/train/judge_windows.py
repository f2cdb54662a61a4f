"""What the judges learn from: windows of the pooled canvas, (B, 1, 64, columns), each altered as a generator or a room might."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .prompts import SUBJECTS

CLASSES = {"picture": tuple(SUBJECTS["image"]), "sound": tuple(SUBJECTS["audio"])}


class Random:
    """Random numbers for a batch, one for each item, shaped to act on (B, 1, H, W)."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, batch: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(batch, 1, 1, 1, generator=self.generator)

    def chance(self, batch: int, share: float) -> Tensor:
        return (self.uniform(batch) < share).float()

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def integers(self, high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=self.generator)

    def smooth(self, batch: int, channels: int, height: int, width: int, cell: int = 16) -> Tensor:
        """Low-frequency noise of about unit variance."""
        coarse = self.normal(batch, channels, height // cell + 1, width // cell + 1)
        return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)


class Rows:
    """Windows of rows of drawings as canvases.py composes them, laid out by resampling, so that no two are alike.

    Of two drawings of a class (or one, twice) in turn: turned, sheared, stretched and bent a little, in one of four versions each.
    """

    def __init__(self, folder: Path):
        self.shapes = torch.from_numpy(np.load(folder / "shapes.npy"))
        entries = json.loads((folder / "drawings.json").read_text())
        self.members = [
            torch.tensor([i for i, entry in enumerate(entries) if (entry["class"], entry["split"]) == (label, "train")])
            for label in CLASSES["picture"]
        ]
        outlined = torch.tensor([entry["outlined"] for entry in entries])
        self.odds = torch.where(outlined[:, None], torch.tensor([0.25, 0.25, 0.1, 0.4]), torch.tensor([0.5, 0.2, 0.2, 0.1]))

    def draw(self, batch: int, columns: int, rng: Random) -> tuple[Tensor, Tensor]:
        labels = rng.integers(len(self.members), batch)
        first, other = (torch.stack([self.members[k][rng.integers(len(self.members[k]))] for k in labels.tolist()]) for _ in range(2))
        second = torch.where(rng.uniform(batch).flatten() < 0.3, other, first)
        tiles = []
        for chosen in (first, second):
            version = torch.multinomial(self.odds[chosen], 1, generator=rng.generator)[:, 0]
            tile = self.shapes[chosen, version].float() / 255
            tiles.append(torch.where(rng.chance(batch, 0.5)[:, 0] > 0, tile.flip(-1), tile))
        side = self.shapes.shape[-1]
        pair = torch.stack(tiles, dim=1).flatten(0, 1)[:, None]  # (2 B, 1, side, side), the two of an item together
        extent = (pair > 0.1).float().amax(dim=2).sum(dim=-1).view(batch, 2).amax(dim=1).view(
            -1, 1, 1, 1
        ) / side  # widest ink, share of a tile
        tall = (pair > 0.1).float().amax(dim=3).sum(dim=-1).view(batch, 2).amax(dim=1).view(-1, 1, 1, 1) / side
        # Size of a tile in pixels, so that the ink is as tall as fits, or for small copies half of that.
        height = 64 * rng.uniform(batch, 0.8, 0.98) * torch.where(rng.chance(batch, 0.12) > 0, 0.55, 1.0)
        size = torch.minimum(height / tall, 124 / extent)
        period = (size * extent * rng.uniform(batch, 1.02, 1.5)).clamp(min=48 * height / 64)
        x = (torch.arange(columns) + 0.5).view(1, 1, 1, -1) + rng.uniform(batch, 0, 1) * 2 * period
        turn = (x / period).floor() % 2
        across = ((x % period) - period / 2) / (size / 2) + torch.zeros(1, 1, 64, 1)
        down = ((torch.arange(64) + 0.5 - 32).view(1, 1, -1, 1) + rng.uniform(batch, -2, 2)) / (size / 2) + torch.zeros(1, 1, 1, columns)
        angle, stretch = 0.12 * rng.normal(batch, 1, 1, 1), (0.1 * rng.normal(batch, 1, 1, 1)).exp()
        bend = rng.smooth(batch, 2, 64, columns) * rng.uniform(batch, 0, 0.08)
        u = (angle.cos() * across - angle.sin() * down) * stretch + 0.1 * rng.normal(batch, 1, 1, 1) * down + bend[:, :1]
        v = (angle.sin() * across + angle.cos() * down) / stretch + bend[:, 1:]
        grid = torch.cat([u, v], dim=1).permute(0, 2, 3, 1)
        sampled = F.grid_sample(pair, grid.repeat_interleave(2, dim=0), align_corners=False).view(batch, 2, 64, columns)
        return torch.where(turn > 0, sampled[:, 1:], sampled[:, :1]), labels


def blurred(canvas: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(canvas, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def erased(canvas: Tensor, rng: Random, height: float, width: float) -> Tensor:
    """A rectangle of up to height x width, shares of the canvas, becomes black."""
    batch, _, rows, columns = canvas.shape
    y, x = (torch.arange(rows).view(-1, 1) / rows, torch.arange(columns) / columns)
    top, left = rng.uniform(batch), rng.uniform(batch)
    inside = (y > top) & (y < top + rng.uniform(batch, 0, height)) & (x > left) & (x < left + rng.uniform(batch, 0, width))
    return canvas * (~inside)


def weathered(ink: Tensor, rng: Random) -> Tensor:
    """Drawings on black, 0..1, as a generator might leave them: on gray, striped, blotched, blurred, noisy, some inverted."""
    batch, _, rows, columns = ink.shape
    y, x = torch.linspace(-1, 1, rows).view(-1, 1), torch.linspace(-1, 1, columns)
    ink = ink ** (0.3 * rng.normal(batch, 1, 1, 1)).exp()
    ink = torch.where(rng.chance(batch, 0.3) > 0, blurred(blurred(ink)), ink)
    lines = rng.normal(batch, 1, rows, 1).clamp(min=0) * rng.smooth(batch, 1, rows, columns).sigmoid()
    pulses = rng.normal(batch, 1, 1, columns).clamp(min=0) * rng.smooth(batch, 1, rows, columns).sigmoid()
    stripes = torch.where(rng.chance(batch, 0.5) > 0, lines, pulses).clamp(max=1)
    ink = ink * (1 - stripes * rng.uniform(batch, 0, 0.8) * rng.chance(batch, 0.3))
    ink = ink * (1 - 0.5 * rng.smooth(batch, 1, rows, columns).clamp(0, 1.5) * rng.chance(batch, 0.3))
    ink = torch.where(rng.chance(batch, 0.25) > 0, erased(ink, rng, 0.6, 0.4), ink)
    ground = rng.uniform(batch, 0, 0.3) * (1 + rng.uniform(batch, -1, 1) * y + rng.uniform(batch, -0.5, 0.5) * x).clamp(0, 2)
    ground = ground + 0.12 * rng.smooth(batch, 1, rows, columns).clamp(min=0) * rng.chance(batch, 0.5)
    ground = ground * rng.chance(batch, 0.5) + stripes * rng.uniform(batch, 0, 0.4) * rng.chance(batch, 0.3)
    canvas = ground + ink * (rng.uniform(batch, 0.4, 1) - ground)
    canvas = canvas + rng.normal(*canvas.shape) * rng.uniform(batch, 0, 0.12) * rng.chance(batch, 0.5)
    return torch.where(rng.chance(batch, 0.08) > 0, 1 - canvas, canvas).clamp(0, 1)


class Clips:
    """Windows of spectrogram pictures, anywhere along time."""

    def __init__(self, folder: Path):
        self.pictures = torch.from_numpy(np.load(folder / "sounds_train.npy"))
        self.labels = torch.tensor(
            [CLASSES["sound"].index(entry["class"]) for entry in json.loads((folder / "sounds_train.json").read_text())]
        )

    def draw(self, batch: int, columns: int, rng: Random) -> tuple[Tensor, Tensor]:
        chosen, full = rng.integers(len(self.labels), batch), self.pictures.shape[-1]
        stretched = int(columns * float(rng.uniform(1, 0.8, 1.25)))  # the whole batch at one tempo
        positions = (rng.integers(full, batch, 1) + torch.arange(stretched)) % full
        windows = self.pictures[chosen].float().gather(2, positions[:, None].expand(-1, self.pictures.shape[1], -1)) / 255
        return F.interpolate(windows[:, None], (windows.shape[1], columns), mode="bilinear"), self.labels[chosen]


def distorted(canvas: Tensor, rng: Random) -> Tensor:
    """Spectrogram pictures as a generator or a room might leave them: re-pitched, filtered, smeared, masked, over a noise floor.

    A level of 0.1 of the picture is 14.6 dB.
    """
    batch, _, rows, columns = canvas.shape
    shift = rng.integers(7, batch) - 3
    positions = (torch.arange(rows) + shift[:, None]).clamp(0, rows - 1)
    canvas = canvas.gather(2, positions[:, None, :, None].expand(-1, 1, -1, columns))
    sounding = (canvas > 0.02).float()
    colour = rng.uniform(batch, -0.12, 0.12) * torch.linspace(-1, 1, rows).view(-1, 1) + 0.04 * rng.smooth(batch, 1, rows, 1, cell=12)
    canvas = canvas + sounding * (colour + rng.uniform(batch, -0.14, 0.06))
    decay = rng.uniform(batch, 0.03, 0.15)
    tail = torch.stack([F.pad(canvas, (step, 0))[..., :columns] - decay * step for step in range(5)]).amax(dim=0)
    canvas = torch.where(rng.chance(batch, 0.3) > 0, tail, canvas)
    canvas = torch.where(rng.chance(batch, 0.35) > 0, blurred(canvas), canvas)
    holes = rng.smooth(batch, 1, rows, columns) * 3 + rng.uniform(batch, -1, 3)  # soft, of any shape, as a picture's dark parts are
    canvas = torch.where(rng.chance(batch, 0.4) > 0, canvas * (holes + 1).clamp(0.15, 1), canvas)
    canvas = torch.where(rng.chance(batch, 0.3) > 0, erased(canvas, rng, 2, 0.3), canvas)
    canvas = torch.where(rng.chance(batch, 0.3) > 0, erased(canvas, rng, 0.3, 2), canvas)
    canvas = canvas + rng.normal(*canvas.shape) * rng.uniform(batch, 0, 0.05) * rng.chance(batch, 0.5)
    floor = canvas.amax(dim=(2, 3), keepdim=True) - rng.uniform(batch, 0.2, 0.55) + 0.02 * rng.normal(*canvas.shape)
    return torch.where(rng.chance(batch, 0.35) > 0, torch.maximum(canvas, floor), canvas).clamp(0, 1)
