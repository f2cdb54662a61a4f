"""Compose colour canvases of 64 x 256, and reduce the spectrograms that lie over them to the same size, for the colour model.

    python -m lab.train.colors [--data data] [--sheet]

Writes `<data>/color/{train,dev,heldout}.npy` (uint8 [N, 3, 64, 256]), `.json` of the same names (label and drawings of each canvas) and
`<data>/color/sounds-{train,dev,heldout}.npy` (uint8 [N, 64, 256]). A canvas is laid out as those of `canvases.py`; its three channels are
gray level times chromaticity r / (r + g + b), so that their *sum* is the gray level and no colour is too bright to be stored. What is done
is skipped. With `--sheet`, also a sheet of the first canvases of each split.

Colours are those of the emoji sets, which are painted like the things themselves; all other sets are of one colour, often the set's own.
Half of the training canvases show emoji. The other half show drawings of the other sets, for their shapes, in the colours of an emoji of
the same class: each height gets the emoji's mean chromaticity at that height, so a pine is green with a brown foot.

The emoji of the family `emojione` are left out of training and are the development set here, because the development split of the drawings
has none; `heldout` is Twemoji, of the frozen split.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image

from .canvases import HEIGHT, WIDTH, Deck, cropped, flipped, hero, levels, row
from .drawings import NAMES, candidates, render
from .fetch import unpacked
from .prompts import PLUS

EMOJI = {"train": {"fluent-emoji", "fluent-emoji-flat", "fxemoji", "noto", "noto-v1"}, "dev": {"emojione"}, "heldout": {"twemoji"}}
SEEDS = {"train": 11, "dev": 12, "heldout": 13}
CANVASES = 140  # of one thing, a class
PAIRS = 2  # canvases a pair of classes
REDUCTION = 4
HERO = 0.1
TINTED = 0.15  # share with a dim coloured gradient behind
BANDS = 32  # heights of an emoji at which its colours are taken


def chromaticity(rgba: np.ndarray) -> np.ndarray:
    """r, g and b over their sum, float32 [H, W, 3]; black is neutral."""
    shifted = rgba[..., :3] + 1 / 255
    return shifted / shifted.sum(axis=-1, keepdims=True)


def palette(drawing: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Mean chromaticity at each height of a drawing [2, H, W], from top to foot, weighted by brightness: float32 [BANDS, 3]."""
    layers = cropped(np.concatenate([drawing.prod(axis=0, dtype=np.float32)[None], drawing[1:], np.moveaxis(color, -1, 0)]))
    bands = [(band[2:] * band[0]).sum(axis=(1, 2)) / band[0].sum() for band in np.array_split(layers, BANDS, axis=1) if band[0].any()]
    return np.stack([bands[round(position)] for position in np.linspace(0, len(bands) - 1, BANDS)])


def painted(drawing: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """The drawing's ink in a palette's colours: chromaticity [H, W, 3]."""
    rows = np.flatnonzero((drawing[1] > 25).any(axis=1))
    heights = np.interp(np.arange(len(drawing[1])), (rows[0], rows[-1]), (0, BANDS - 1))
    bands = np.stack([np.interp(heights, np.arange(BANDS), channel) for channel in colors.T], axis=-1)
    return np.broadcast_to(bands[:, None].astype(np.float32), (*drawing.shape[1:], 3))


class Painter:
    """Hands out the drawings of one split, each with its colours."""

    def __init__(self, split: str, drawings: np.ndarray, entries: list[dict], emoji: dict[int, np.ndarray], rng: np.random.Generator):
        """emoji: chromaticity [H, W, 3] of the drawings at these indices, of any split."""
        self.drawings, self.rng = drawings, rng
        self.emoji = {index: color for index, color in emoji.items() if entries[index]["set"] in EMOJI[split]}
        apart = {entry["family"] for entry in entries if entry["set"] in EMOJI["dev"]}
        self.decks = {}
        for label in NAMES:
            members = [index for index in self.emoji if entries[index]["class"] == label]
            others = [
                index
                for index, entry in enumerate(entries)
                if (entry["class"], entry["split"]) == (label, split) and entry["family"] not in apart and index not in self.emoji
            ]
            if members:
                self.decks[label] = Deck(members, rng), Deck(others, rng)

    def draw(self, label: str, emoji_share: float) -> tuple[np.ndarray, int]:
        """A drawing of a class, uint8 [3 + 1, H, W]: gray level times chromaticity, and alpha; and its index."""
        emoji, others = self.decks[label]
        index = donor = emoji.draw()
        if self.rng.random() < emoji_share:
            color = self.emoji[index]
        else:
            index = others.draw()
            color = painted(self.drawings[index], palette(self.drawings[donor], self.emoji[donor]))
        gray, alpha = self.drawings[index]
        return np.concatenate([np.round(gray * np.moveaxis(color, -1, 0)).astype(np.uint8), alpha[None]]), index


def compose(things: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """A canvas, uint8 [3, 64, 256], of one thing or of two in turn, each [3 + 1, H, W]."""
    tinted, heroic = rng.random() < TINTED, len(things) == 1 and rng.random() < HERO
    top, bottom = rng.uniform(0, 0.3, 2)
    gradient = np.linspace(top, bottom, HEIGHT, dtype=np.float32)[:, None]
    tint = rng.dirichlet((4, 4, 4))
    layout = int(rng.integers(2**32))
    canvas = []
    for channel in range(3):
        same = np.random.default_rng(layout)  # every channel is laid out alike
        layer = np.zeros((HEIGHT, WIDTH), np.float32)
        if tinted:
            layer += gradient * tint[channel]
        drawings = [flipped(thing[[channel, 3]], same) for thing in things]
        if heroic:
            hero(layer, drawings[0], same)
        else:
            row(layer, drawings, same)
        canvas.append(reduced(layer))
    return levels(np.stack(canvas))


def reduced(pictures: np.ndarray) -> np.ndarray:
    """Mean of each block of 4 x 4: [..., 256, 1024] to [..., 64, 256]."""
    *lead, height, width = pictures.shape
    return pictures.reshape(*lead, height // REDUCTION, REDUCTION, width // REDUCTION, REDUCTION).mean(axis=(-3, -1), dtype=np.float32)


def canvases_of(split: str, painter: Painter, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, dict]]:
    """The training canvases: of one thing with the classes in turn, then of two. Elsewhere one canvas an emoji, in its own colours."""
    if split == "train":
        pairs = list(combinations(painter.decks, 2)) * PAIRS
        for labels in [(label,) for _ in range(CANVASES) for label in painter.decks] + pairs:
            things, indices = zip(*(painter.draw(label, 0.5) for label in labels), strict=True)
            yield compose(list(things), rng), {"class": PLUS.join(labels), "drawings": indices}
    else:
        for label, (emoji, _) in painter.decks.items():
            for _ in emoji.members:
                thing, index = painter.draw(label, 1.0)
                yield compose([thing], rng), {"class": label, "drawings": [index]}


def contact_sheet(canvases: np.ndarray, path: Path) -> None:
    """The canvases in true colours at half brightness, six a row."""
    shown = np.clip(canvases[: len(canvases) // 6 * 6].astype(np.float32) * 1.5, 0, 255).astype(np.uint8)
    rows = shown.reshape(-1, 6, *shown.shape[1:]).transpose(0, 3, 1, 4, 2)
    Image.fromarray(rows.reshape(-1, 6 * shown.shape[-1], 3)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--sheet", action="store_true", help="also write a sheet of each split")
    options = parser.parse_args()
    pictures, folder = options.data / "pictures", options.data / "color"
    folder.mkdir(parents=True, exist_ok=True)

    drawings = np.load(pictures / "drawings.npy", mmap_mode="r")
    entries = json.loads((pictures / "drawings.json").read_text())
    of_name = {(entry["set"], entry["name"]): i for i, entry in enumerate(entries) if entry["set"] in set.union(*EMOJI.values())}
    emoji = {
        of_name[prefix, name]: chromaticity(render(svg))
        for _, prefix, name, svg in candidates(unpacked(options.data, "@iconify/json") / "package")
        if (prefix, name) in of_name
    }
    for split in EMOJI:
        sounds = folder / f"sounds-{split}.npy"
        if not sounds.exists():
            clips = np.load(options.data / "sounds" / f"{split}.npy", mmap_mode="r")
            np.save(sounds, np.concatenate([np.round(reduced(clips[i : i + 64])).astype(np.uint8) for i in range(0, len(clips), 64)]))
        manifest = folder / f"{split}.json"
        if not manifest.exists():
            rng = np.random.default_rng(SEEDS[split])
            painter = Painter(split, drawings, entries, emoji, rng)
            canvases, described = zip(*canvases_of(split, painter, rng), strict=True)
            np.save(folder / f"{split}.npy", np.stack(canvases))
            manifest.write_text("[\n" + ",\n".join(json.dumps(entry) for entry in described) + "\n]\n")
            print(f"{split}: {len(canvases)} canvases, {len(painter.emoji)} emoji")
        if options.sheet:
            contact_sheet(np.load(folder / f"{split}.npy")[:120], folder / f"sheet-{split}.png")


if __name__ == "__main__":
    main()
