"""Compose what the image UNet learns from: rows of typical drawings on black, night scenes, and both hatched as engravings.

    python -m lab.train.drawn --data data [--sheet sheet.png]

Writes `<data>/pictures/drawn.{npy,json}` and, of drawings that are not learnt, `apart.{npy,json}` for the loss by noise level. uint8
[N, 256, 1024]; an entry says the canvas's class (or two joined by +), its manner (row, scene or engraving), its drawings, and by which
prompts it is called, a key of `embeddings.py`. With `--sheet`, 24 canvases are also drawn there, to look at before a long run. What is
complete is not composed again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image

from .canvases import HEIGHT, WIDTH, flipped, levels, row
from .prompts import PLUS, called
from .scenes import hatched, scene
from .typical import apart_drawings, learnt_drawings, shaded

ROUNDS = 36  # of the manners below, for every class
MANNERS = ("row",) * 6 + ("scene", "engraving") * 2
PAIRS = 5  # rows of two things, for every two classes
FIRS = ("3d:1f332", "emojione:evergreen-tree", "fxemoji:evergreen")
SEED = 5

Drawings = dict[str, dict[str, np.ndarray]]
Canvas = tuple[np.ndarray, dict]


class Deck:
    """The drawings of one class in random order, all of them before one returns."""

    def __init__(self, drawings: dict[str, np.ndarray], rng: np.random.Generator):
        self.drawings, self.rng, self.left = drawings, rng, []

    def draw(self) -> tuple[str, np.ndarray]:
        """Name, and the drawing cut to its ink, facing left or right."""
        if not self.left:
            self.left = self.rng.permutation(list(self.drawings)).tolist()
        name = self.left.pop()
        return name, flipped(self.drawings[name], self.rng)


def compose(label: str, drawing: np.ndarray, manner: str, firs: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """A canvas of one thing, uint8 [256, 1024]. An engraving is a hatched scene."""
    if manner == "row":
        canvas = np.zeros((HEIGHT, WIDTH), np.float32)
        row(canvas, [drawing], rng)
        return levels(canvas)
    canvas = scene(label, drawing, firs, rng)
    return levels(hatched(canvas, rng) if manner == "engraving" else canvas)


def described(label: str, manner: str, names: list[str]) -> dict:
    return {"class": label, "manner": manner, "drawings": names, "prompts": called(label, manner)}


def learnt(drawings: Drawings, rounds: int = ROUNDS, seed: int = SEED) -> Iterator[Canvas]:
    """Classes take turns, so that any prefix is balanced; rows of two things are spread among them."""
    rng = np.random.default_rng(seed)
    decks = {label: Deck(of_class, rng) for label, of_class in drawings.items()}
    scenic = {label: Deck(shaded(of_class), rng) for label, of_class in drawings.items()}
    firs = [flipped(drawings["tree"][name], rng) for name in FIRS]
    pairs = rng.permutation(list(combinations(drawings, 2)) * PAIRS).tolist()
    turns = [manner for _ in range(rounds) for manner in rng.permutation(MANNERS).tolist()]
    for turn, manner in enumerate(turns):
        for label in drawings:
            name, drawing = (decks if manner == "row" else scenic)[label].draw()
            yield compose(label, drawing, manner, firs, rng), described(label, manner, [name])
        for labels in pairs[turn :: len(turns)]:
            chosen = [decks[label].draw() for label in labels]
            canvas = np.zeros((HEIGHT, WIDTH), np.float32)
            row(canvas, [drawing for _, drawing in chosen], rng)
            yield levels(canvas), described(PLUS.join(labels), "row", [name for name, _ in chosen])


def apart(drawings: dict[str, np.ndarray], firs: list[np.ndarray]) -> Iterator[Canvas]:
    """One canvas of every class, the manners in turn: rows, scenes and engravings in the training's shares, nearly."""
    rng = np.random.default_rng(SEED + 1)
    for turn, (label, drawing) in enumerate(drawings.items()):
        manner = ("row", "scene", "row", "engraving", "row")[turn % 5]
        yield compose(label, flipped(drawing, rng), manner, firs, rng), described(label, manner, [label])


def write(canvases: Iterator[Canvas], path: Path) -> None:
    """`path`.npy and, once that is whole, `path`.json."""
    pictures, entries = zip(*canvases, strict=True)
    np.save(path.with_suffix(".npy"), np.stack(pictures))
    path.with_suffix(".json").write_text("[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]\n")
    print(f"{path.name}: {len(entries)} canvases")


def sheet(canvases: list[np.ndarray], path: Path, columns: int = 2, scale: int = 2) -> None:
    """The canvases side by side at half their size."""
    size = WIDTH // scale, HEIGHT // scale
    rows = -(-len(canvases) // columns)
    shown = Image.new("L", (columns * (size[0] + 4), rows * (size[1] + 4)), 128)
    for index, canvas in enumerate(canvases):
        small = Image.fromarray(canvas).resize(size, Image.Resampling.LANCZOS)
        shown.paste(small, (index % columns * (size[0] + 4), index // columns * (size[1] + 4)))
    shown.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--sheet", type=Path, help="draw the first 24 canvases of mixed manners there and stop")
    args = parser.parse_args()

    drawings = learnt_drawings(args.data)
    if args.sheet:
        rng = np.random.default_rng(0)
        firs = [flipped(drawings["tree"][name], rng) for name in FIRS]
        labels = list(drawings)
        shown = []
        for index in range(24):
            label = labels[index % len(labels)]
            manner = ("row", "scene", "engraving")[index % 3]
            _, drawing = Deck(drawings[label] if manner == "row" else shaded(drawings[label]), rng).draw()
            shown.append(compose(label, drawing, manner, firs, rng))
        sheet(shown, args.sheet)
        return
    folder = args.data / "pictures"
    if not (folder / "drawn.json").exists():
        write(learnt(drawings), folder / "drawn")
    if not (folder / "apart.json").exists():
        firs = [flipped(drawings["tree"][name], np.random.default_rng(0)) for name in FIRS]
        write(apart(apart_drawings(args.data), firs), folder / "apart")


if __name__ == "__main__":
    main()
