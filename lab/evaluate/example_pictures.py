"""Pictures and sounds that photos are tried with in sounds: what is chosen on "development" and "tuning" is confirmed on "confirm", which
shares nothing with them.

Photos: the repository's cat and scikit-image's samples (camera CC0, coffee CC0, rocket and astronaut NASA, coins of the Brooklyn Museum's
open collection, retina CC0, motorcycle of the Middlebury stereo datasets), unpacked once:

    pip install --no-deps --target data/skimage scikit-image==0.25.2

Drawings are made here, white on black as sounds like them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

REPO = Path(__file__).resolve().parents[2]
PHOTOS = REPO / "data" / "skimage" / "skimage" / "data"
SIDE = 256


def word(text: str = "SOUND") -> Image.Image:
    picture = Image.new("L", (512, SIDE))
    ImageDraw.Draw(picture).text((256, 128), text, 255, ImageFont.load_default(150), "mm")
    return picture


def tower() -> Image.Image:
    """A church with a tower, its windows dark, between two houses."""
    picture = Image.new("L", (384, SIDE))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((150, 90, 220, 250), 200)
    draw.polygon([(140, 90), (185, 14), (230, 90)], 255)
    draw.polygon([(220, 170), (275, 120), (345, 170)], 230)
    draw.rectangle((220, 170, 340, 250), 150)
    draw.rectangle((40, 190, 120, 250), 170)
    draw.polygon([(30, 190), (80, 150), (130, 190)], 240)
    for x, y, w, h in [
        (172, 110, 26, 36),
        (172, 190, 26, 60),
        (240, 190, 18, 34),
        (272, 190, 18, 34),
        (304, 190, 18, 34),
        (70, 208, 20, 24),
    ]:
        draw.rectangle((x, y, x + w, y + h), 0)
    return picture


def sun() -> Image.Image:
    """A sun in lines."""
    picture = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((72, 72, 184, 184), outline=255, width=8)
    for angle in np.arange(12) * np.pi / 6:
        near, far = 128 + 72 * np.array([np.cos(angle), np.sin(angle)]), 128 + 112 * np.array([np.cos(angle), np.sin(angle)])
        draw.line([*near, *far], 255, 8)
    return picture


def photo(name: str) -> Callable[[], Image.Image]:
    return lambda: Image.open(PHOTOS / name)


@dataclass(frozen=True)
class Picture:
    """What it is called, how it is made, and the words by which the embedded image model, which knows 14 things, is asked for it."""

    name: str
    make: Callable[[], Image.Image]
    prompt: str = ""

    def gray(self) -> Tensor:
        """(256, w) in 0..1, w a multiple of 8."""
        picture = self.make().convert("RGB")
        width = 8 * round(picture.width * SIDE / picture.height / 8)
        return torch.from_numpy(np.asarray(picture.resize((width, SIDE), Image.Resampling.BICUBIC), np.float32).mean(-1) / 255)


@dataclass(frozen=True)
class Material:
    """Every picture meets every sound; a pair's noise has the seed `seed` + its number."""

    pictures: tuple[Picture, ...]
    sounds: tuple[str, ...]
    seed: int


SETS = {
    "development": Material(
        (
            Picture("astronaut", photo("astronaut.png")),
            Picture("coins", photo("coins.png")),
            Picture("sun", sun, "a drawing of a flower"),
        ),
        ("a violin", "xylophone playing", "birds chirping", "an explosion"),
        3_000_000,
    ),
    "tuning": Material(
        (
            Picture("astronaut", photo("astronaut.png")),
            Picture("coins", photo("coins.png")),
            Picture("motorcycle", photo("motorcycle_left.png")),
            Picture("retina", photo("retina.jpg")),
            Picture("sun", sun, "a drawing of a flower"),
            Picture("echo", lambda: word("ECHO")),
        ),
        ("a violin", "xylophone playing", "birds chirping", "an explosion", "organ playing", "a car engine"),
        5_000_000,
    ),
    "confirm": Material(
        (
            Picture("cat", lambda: Image.open(REPO / "workflows" / "inputs" / "chelsea.png"), "a drawing of a cat"),
            Picture("photographer", photo("camera.png")),
            Picture("coffee", photo("coffee.png")),
            Picture("rocket", photo("rocket.jpg"), "a drawing of an airplane"),
            Picture("word", word),
            Picture("tower", tower, "a drawing of a castle"),
        ),
        ("church bell ringing", "playing acoustic guitar", "drums beating", "dog barking", "applause", "piano playing"),
        4_000_000,
    ),
}
