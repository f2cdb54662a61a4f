"""The drawings that the image UNet learns: a few of each class, chosen by eye, all in one or two poses.

A model this small draws a few shapes well or many badly: dogs stand and show their side, cats are heads, trains are engines from the side.
Beside the glyphs and emoji that `drawings.py` rasterises stand Fluent Emoji 3D, which are shaded, and every flat glyph twice: as it is and
in relief (`RELIEF` ends its name). All are of families on the training side of the split; `APART` names one more of each class that is not
learnt, of which the canvases for the loss by noise level are made.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from .drawings import SIZE, shade
from .fetch import unpacked
from .relief import flat, relief

RELIEF = ", relief"
EMOJI_PACKAGE = "@lobehub/fluent-emoji-3d"

TYPICAL = {
    "castle": "at-icons:castle emojione:castle fluent-emoji:castle fluent-emoji-flat:castle fluent-emoji-high-contrast:castle noto:castle "
    "ic:baseline-castle tdesign:castle-1-filled",
    "dog": "fluent-emoji:dog fluent-emoji-flat:dog fxemoji:poodle mdi:dog-side pinhead:dog roentgen:dog noto:guide-dog",
    "cat": "at-icons:cat emojione:cat-face fluent-emoji:cat-face mdi:cat noto:cat-face noto-v1:cat-face",
    "fish": "at-icons:fish emojione-monotone:tropical-fish famicons:fish flowbite:fish-solid noto:fish noto:tropical-fish pinhead:fish "
    "mdi:fish",
    "flower": "at-icons:flower emojione:blossom fluent-emoji-flat:blossom mdi:flower noto-v1:sunflower noto:tulip fluent-emoji:tulip "
    "emojione:tulip",
    "tree": "at-icons:tree emojione:evergreen-tree fxemoji:evergreen fluent-emoji-high-contrast:deciduous-tree game-icons:beech "
    "noto:christmas-tree noto:deciduous-tree",
    "mountain": "at-icons:mountains noto-v1:mountain noto:mount-fuji noto:mountain temaki:mountain-range mingcute:mountain-2-fill "
    "foundation:mountains noto-v1:mount-fuji",
    "train": "emojione:locomotive fluent-emoji:locomotive fluent-emoji-flat:locomotive noto:locomotive "
    "noto:bullet-train noto:high-speed-train",
    "car": "emojione:automobile noto:automobile noto-v1:automobile game-icons:city-car mdi:car-hatchback pinhead:sedan fontisto:automobile",
    "ship": "at-icons:sailboat noto:sailboat fontisto:yacht ic:baseline-sailing emojione:passenger-ship noto:passenger-ship noto-v1:ship",
    "airplane": "emojione:airplane noto:airplane vaadin:airplane subway:airplane-mode keyline-icons:plane-fill "
    "fluent-emoji-high-contrast:small-airplane fontisto:plane",
    "bell": "at-icons:bell ep:bell-filled noto:bell fxemoji:bell fluent-emoji-flat:bell heroicons:bell-16-solid nrk:bell-solid "
    "pinhead:bell",
    "guitar": "emojione:guitar fluent-emoji:guitar fxemoji:guitar mdi:guitar-acoustic mingcute:guitar-fill noto:guitar ph:guitar-fill "
    "wpf:guitar",
    "skull": "emojione:skull famicons:skull fluent-emoji:skull fluent-emoji-flat:skull material-symbols:skull noto:skull pinhead:skull",
}
EMOJI = {  # file names of Fluent Emoji 3D: code points
    "castle": "1f3f0",
    "dog": "1f415 1f9ae",
    "cat": "1f431",
    "fish": "1f41f",
    "flower": "1f337 1f33b 1f33c",
    "tree": "1f332 1f333 1f384",
    "mountain": "1f3d4-fe0f 1f5fb",
    "train": "1f682 1f683",
    "car": "1f697 1f699",
    "ship": "26f5 1f6a2",
    "airplane": "2708-fe0f 1f6e9-fe0f",
    "bell": "1f514",
    "guitar": "1f3b8",
    "skull": "1f480",
}
APART = {
    "castle": "noto-v1:castle",
    "dog": "noto:service-dog",
    "cat": "noto-v1:grinning-cat",
    "fish": "noto-v1:fish",
    "flower": "fxemoji:blossom",
    "tree": "noto-v1:evergreen-tree",
    "mountain": "noto-v1:snow-capped-mountain",
    "train": "noto-v1:locomotive",
    "car": "noto:sport-utility-vehicle",
    "ship": "temaki:sailing",
    "airplane": "gravity-ui:plane-fill",
    "bell": "ph:bell-fill",
    "guitar": "noto-v1:guitar",
    "skull": "mdi:skull",
}


def icon_drawings(data: Path, chosen: dict[str, str]) -> dict[str, dict[str, np.ndarray]]:
    """{class: {set:name: uint8 [2, 256, 256]}} of drawings that `drawings.py` rasterised.

    Raises:
        ValueError: one of them is not there, or not on the training side of the split.
    """
    folder = data / "pictures"
    pixels = np.load(folder / "drawings.npy", mmap_mode="r")
    rows = {
        (entry["class"], f"{entry['set']}:{entry['name']}"): row
        for row, entry in enumerate(json.loads((folder / "drawings.json").read_text()))
        if entry["split"] == "train"
    }
    wanted = [(label, name) for label, names in chosen.items() for name in names.split()]
    if missing := [name for name in wanted if name not in rows]:
        raise ValueError(f"not among the training drawings in {folder}: {missing}")
    return {label: {name: np.array(pixels[rows[label, name]]) for name in names.split()} for label, names in chosen.items()}


def emoji_drawing(file: Path) -> np.ndarray:
    """A picture with transparency as gray level and alpha, uint8 [2, 256, 256], stretched as the rasterised drawings are."""
    rgba = Image.open(file).convert("RGBA").resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    shaded = shade(np.asarray(rgba, dtype=np.float32) / 255)
    if shaded is None:
        raise ValueError(f"{file} shows nothing")
    return np.stack(shaded)


def with_reliefs(drawings: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The drawings, and the flat ones among them a second time in relief."""
    return drawings | {f"{name}{RELIEF}": relief(drawing) for name, drawing in drawings.items() if flat(drawing)}


def shaded(drawings: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without the flat ones: what stands in a scene has tones."""
    return {name: drawing for name, drawing in drawings.items() if not flat(drawing)}


def learnt_drawings(data: Path) -> dict[str, dict[str, np.ndarray]]:
    """{class: {name: uint8 [2, 256, 256]}}, what training canvases are composed of. Raises as `icon_drawings` does."""
    assets = unpacked(data, EMOJI_PACKAGE) / "package" / "assets"
    emoji = {label: {f"3d:{code}": emoji_drawing(assets / f"{code}.webp") for code in codes.split()} for label, codes in EMOJI.items()}
    return {label: with_reliefs(drawings) | emoji[label] for label, drawings in icon_drawings(data, TYPICAL).items()}


def apart_drawings(data: Path) -> dict[str, np.ndarray]:
    """{class: uint8 [2, 256, 256]}, one drawing of each class that is not learnt, in relief where it is flat."""
    named = {label: drawings.popitem() for label, drawings in icon_drawings(data, APART).items()}
    return {label: relief(drawing) if flat(drawing) else drawing for label, (_, drawing) in named.items()}
