"""Compose canvases of 256 x 1024 from the drawings, ahead of training.

    python tools/embedded/canvases.py [--data data]

Writes `<data>/pictures/{train,dev,heldout}.npy` (uint8 [N, 256, 1024], memory-mapped) and the same names in `.json`: for each canvas its
class, layout, whether it is inverted, and the index of its drawing. Row 0 is the top. Bright drawings stand on black, where a
spectrogram is silent. Most canvases repeat one drawing in a row that closes on itself, so rolling one along time gives another.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from drawings import NAMES
from PIL import Image

HEIGHT, WIDTH = 256, 1024
SPLITS = {"train": 290, "dev": 20, "heldout": 40}  # canvases a class
SEEDS = {"train": 1, "dev": 2, "heldout": 3}
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


def row(canvas: np.ndarray, drawing: np.ndarray, rng: np.random.Generator) -> None:
    """One drawing, repeated two to five times at equal distances, as tall as fits."""
    brightness = rng.uniform(0.8, 1)
    ratio = drawing.shape[2] / drawing.shape[1]
    height = HEIGHT * rng.uniform(0.85, 0.95)
    copies = int(np.clip(WIDTH // (height * ratio * 1.02), 2, 5))
    if copies > 3 and rng.random() < 0.3:
        copies -= 1
    width = min(height * ratio, WIDTH / copies * 0.98)
    height = width / ratio
    offset = rng.uniform(0, WIDTH)
    for copy in range(copies):
        paste(canvas, drawing, offset + copy * WIDTH / copies, HEIGHT / 2, height, width, brightness)


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


def compose(drawing: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, dict]:
    """A canvas, uint8 [256, 1024], and its description."""
    canvas = np.zeros((HEIGHT, WIDTH), np.float32)
    if gradient := rng.random() < GRADIENT:
        top, bottom = rng.uniform(0, 0.3, 2)
        canvas += np.linspace(top, bottom, HEIGHT, dtype=np.float32)[:, None]
    drawing = cropped(drawing)
    if rng.random() < 0.5:
        drawing = drawing[:, :, ::-1]
    layout = rng.choice(list(LAYOUTS), p=list(LAYOUTS.values()))
    {"row": row, "hero": hero}[layout](canvas, drawing, rng)
    if inverted := rng.random() < INVERTED:
        canvas = 1 - canvas
    levels = np.round(np.clip(canvas, 0, 1) * 255).astype(np.uint8)
    return levels, {"layout": str(layout), "inverted": bool(inverted), "gradient": bool(gradient)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    folder = parser.parse_args().data / "pictures"

    drawings = np.load(folder / "drawings.npy", mmap_mode="r")
    entries = json.loads((folder / "drawings.json").read_text())
    for split, count in SPLITS.items():
        rng = np.random.default_rng(SEEDS[split])
        described = []
        canvases = np.lib.format.open_memmap(folder / f"{split}.npy", "w+", np.uint8, (count * len(NAMES), HEIGHT, WIDTH))
        # Classes take turns, so that any prefix of the file is balanced; a class goes through all its drawings before one returns.
        order = {label: [] for label in NAMES}
        for _ in range(count):
            for label in NAMES:
                if not order[label]:
                    of_class = [index for index, entry in enumerate(entries) if entry["class"] == label and entry["split"] == split]
                    order[label] = rng.permutation(of_class).tolist()
                index = order[label].pop()
                canvases[len(described)], description = compose(drawings[index], rng)
                described.append({"class": label, **description, "drawing": index})
        canvases.flush()
        (folder / f"{split}.json").write_text("[\n" + ",\n".join(json.dumps(entry) for entry in described) + "\n]\n")
        print(f"{split}: {len(described)} canvases")


if __name__ == "__main__":
    main()
