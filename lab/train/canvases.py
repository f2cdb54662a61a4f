"""Compose canvases of 256 x 1024 from the drawings, ahead of training.

    python -m lab.train.canvases [--data data]

Writes `<data>/pictures/{train,dev,heldout,typical}.npy` (uint8 [N, 256, 1024], memory-mapped) and the same names in `.json`: for each
canvas its label (a class, or two joined by +), layout, whether it is inverted, and the indices of its drawings. Row 0 is the top. Bright
drawings stand on black, where a spectrogram is silent. Most canvases repeat one drawing in a row that closes on itself, so rolling one
along time gives another. A split that is complete is not composed again.

`typical` is what the image UNet learns: rows of the training drawings that are most like the others of their class, and rows of two
things in turn. A model this small, trained this briefly, draws a few shapes well or many badly.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .drawings import NAMES
from .prompts import PLUS

HEIGHT, WIDTH = 256, 1024
SPLITS = {"train": 290, "dev": 20, "heldout": 40}  # canvases a class
SEEDS = {"train": 1, "dev": 2, "heldout": 3, "typical": 4}
TYPICAL = 20  # drawings a class
TYPICAL_ROWS = 240  # canvases a class
TYPICAL_PAIRS = 6  # canvases a pair of classes
LAYOUTS = {"row": 0.9, "hero": 0.1}
INVERTED = 0.01
GRADIENT = 0.08  # share with a dim gray gradient behind


def cropped(drawing: np.ndarray) -> np.ndarray:
    """The drawing [2, h, w] cut to its ink."""
    rows, columns = np.where(drawing[1] > 25)
    return drawing[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def resized(drawing: np.ndarray, height: float, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Premultiplied gray level and alpha in [0, 1], float32 [height, width]."""
    size = max(1, round(width)), max(1, round(height))
    gray, alpha = (
        np.asarray(Image.fromarray(layer).resize(size, Image.Resampling.LANCZOS), dtype=np.float32) / 255
        for layer in (np.round(drawing[0] * (drawing[1] / 255)).astype(np.uint8), drawing[1])
    )
    return gray, alpha


def paste(canvas: np.ndarray, drawing: np.ndarray, x: float, y: float, height: float, width: float, brightness: float) -> None:
    """Draw centred at (x, y); what leaves the canvas on one side comes back on the other."""
    gray, alpha = resized(drawing, height, width)
    top = int(np.clip(round(y - gray.shape[0] / 2), 0, HEIGHT - gray.shape[0]))
    columns = (round(x - gray.shape[1] / 2) + np.arange(gray.shape[1])) % WIDTH
    rows = slice(top, top + gray.shape[0])
    canvas[rows, columns] = canvas[rows, columns] * (1 - alpha) + gray * brightness


def row(canvas: np.ndarray, drawings: list[np.ndarray], rng: np.random.Generator) -> None:
    """Two to five drawings at equal distances, each as tall as fits; where there are several, they take turns."""
    brightness = rng.uniform(0.8, 1)
    ratios = [drawing.shape[2] / drawing.shape[1] for drawing in drawings]
    height = HEIGHT * rng.uniform(0.85, 0.95)
    copies = int(np.clip(WIDTH // (height * max(ratios) * 1.02), 2, 5))
    if copies > 3 and rng.random() < 0.3:
        copies -= 1
    copies -= copies % len(drawings)
    offset = rng.uniform(0, WIDTH)
    for copy in range(copies):
        turn = copy % len(drawings)
        width = min(height * ratios[turn], WIDTH / copies * 0.98)
        paste(canvas, drawings[turn], offset + copy * WIDTH / copies, HEIGHT / 2, width / ratios[turn], width, brightness)


def hero(canvas: np.ndarray, drawing: np.ndarray, rng: np.random.Generator) -> None:
    """One tall drawing among small copies of it."""
    brightness = rng.uniform(0.85, 1)
    ratio = drawing.shape[2] / drawing.shape[1]
    centre = rng.uniform(0, WIDTH)
    small = HEIGHT * rng.uniform(0.4, 0.55)
    height, width = min((HEIGHT * 0.92, HEIGHT * 0.92 * ratio), (400 / ratio, 400))
    paste(canvas, drawing, centre, HEIGHT / 2, height, width, brightness)
    free = WIDTH - width
    copies = int(free // (small * ratio * 1.1))
    for copy in range(copies):
        x = centre + width / 2 + (copy + 0.5) * free / copies
        paste(canvas, drawing, x, HEIGHT / 2, small, small * ratio, brightness * 0.85)


def flipped(drawing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The drawing cut to its ink, facing left or right."""
    drawing = cropped(drawing)
    return drawing[:, :, ::-1] if rng.random() < 0.5 else drawing


def levels(canvas: np.ndarray) -> np.ndarray:
    return np.round(np.clip(canvas, 0, 1) * 255).astype(np.uint8)


def compose(drawing: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, dict]:
    """A canvas of one thing, uint8 [256, 1024], and its description."""
    canvas = np.zeros((HEIGHT, WIDTH), np.float32)
    if gradient := rng.random() < GRADIENT:
        top, bottom = rng.uniform(0, 0.3, 2)
        canvas += np.linspace(top, bottom, HEIGHT, dtype=np.float32)[:, None]
    drawing = flipped(drawing, rng)
    layout = rng.choice(list(LAYOUTS), p=list(LAYOUTS.values()))
    if layout == "row":
        row(canvas, [drawing], rng)
    else:
        hero(canvas, drawing, rng)
    if inverted := rng.random() < INVERTED:
        canvas = 1 - canvas
    return levels(canvas), {"layout": str(layout), "inverted": bool(inverted), "gradient": bool(gradient)}


def typical_drawings(drawings: np.ndarray, members: list[int], count: int) -> list[int]:
    """Of the drawings of one class, the `count` that are most like their eight nearest relatives in it."""
    shown = torch.from_numpy(np.stack([drawings[i].astype(np.float32).prod(axis=0) for i in members]))
    thumbnails = F.adaptive_avg_pool2d(shown.unsqueeze(1), 32).flatten(1)
    vectors = F.normalize(thumbnails - thumbnails.mean(dim=1, keepdim=True), dim=1)
    nearest = (vectors @ vectors.T).topk(min(9, len(members)), dim=1).values[:, 1:]
    return [members[i] for i in nearest.mean(dim=1).topk(min(count, len(members))).indices]


class Deck:
    """Draws the members of a class in random order, all of them before one returns."""

    def __init__(self, members: list[int], rng: np.random.Generator):
        self.members, self.rng, self.left = members, rng, []

    def draw(self) -> int:
        if not self.left:
            self.left = self.rng.permutation(self.members).tolist()
        return self.left.pop()


Canvas = tuple[np.ndarray, dict]


def one_thing(drawings: np.ndarray, entries: list[dict], split: str) -> Iterator[Canvas]:
    """Canvases of a split. Classes take turns, so that any prefix of the file is balanced."""
    rng = np.random.default_rng(SEEDS[split])
    decks = {
        label: Deck([i for i, entry in enumerate(entries) if (entry["class"], entry["split"]) == (label, split)], rng) for label in NAMES
    }
    for _ in range(SPLITS[split]):
        for label, deck in decks.items():
            index = deck.draw()
            canvas, description = compose(drawings[index], rng)
            yield canvas, {"class": label, **description, "drawing": index}


def typical(drawings: np.ndarray, entries: list[dict]) -> Iterator[Canvas]:
    """Rows of one typical drawing, then rows of two of different classes, on black."""
    rng = np.random.default_rng(SEEDS["typical"])
    decks = {}
    for label in NAMES:
        members = [i for i, entry in enumerate(entries) if (entry["class"], entry["split"]) == (label, "train")]
        decks[label] = Deck(typical_drawings(drawings, members, TYPICAL), rng)
    pairs = list(combinations(NAMES, 2)) * TYPICAL_PAIRS
    for labels in [(label,) for _ in range(TYPICAL_ROWS) for label in NAMES] + pairs:
        chosen = [decks[label].draw() for label in labels]
        canvas = np.zeros((HEIGHT, WIDTH), np.float32)
        row(canvas, [flipped(drawings[index], rng) for index in chosen], rng)
        yield levels(canvas), {"class": PLUS.join(labels), "layout": "row", "inverted": False, "gradient": False, "drawings": chosen}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    folder = parser.parse_args().data / "pictures"

    drawings = np.load(folder / "drawings.npy", mmap_mode="r")
    entries = json.loads((folder / "drawings.json").read_text())
    counts = {split: count * len(NAMES) for split, count in SPLITS.items()}
    counts["typical"] = TYPICAL_ROWS * len(NAMES) + TYPICAL_PAIRS * len(NAMES) * (len(NAMES) - 1) // 2
    for split, count in counts.items():
        manifest = folder / f"{split}.json"
        if manifest.exists():
            continue
        canvases = np.lib.format.open_memmap(folder / f"{split}.npy", "w+", np.uint8, (count, HEIGHT, WIDTH))
        described = []
        for canvas, description in typical(drawings, entries) if split == "typical" else one_thing(drawings, entries, split):
            canvases[len(described)] = canvas
            described.append(description)
        canvases.flush()
        manifest.write_text("[\n" + ",\n".join(json.dumps(entry) for entry in described) + "\n]\n")
        print(f"{split}: {len(described)} canvases")


if __name__ == "__main__":
    main()
