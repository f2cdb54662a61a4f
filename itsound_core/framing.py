"""What stands around the picture in a playhead video: its place in the frame, a backdrop, and the captions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from torch import Tensor

from .captions import Typeface, clean

Colour = tuple[int, int, int]

SCREENS: dict[str, tuple[int, int] | None] = {
    "captions": None,
    "landscape 1920 x 1080": (1920, 1080),
    "square 1080 x 1080": (1080, 1080),
    "portrait 1080 x 1920": (1080, 1920),
}
"""Width and height of the layouts with captions; None is as large as the picture needs."""

NARROWEST = 512
"""Width of a frame below which captions could not be read."""
BACKGROUND: Colour = (13, 13, 17)
INK: Colour = (240, 240, 240)
HEADINGS = ("looks like", "sounds like")
MAX_LINES = 6
LARGEST_LETTERS = 38
GAP = 4
"""Rows between two pictures."""
BACKDROP_SCALE, BACKDROP_BLUR, BACKDROP_BRIGHTNESS = 16, 4, 0.25


@dataclass(frozen=True)
class Framed:
    """A frame without its playhead."""

    pixels: Tensor
    """(H, W, 3) uint8, H and W even, as video codecs want them."""
    box: tuple[int, int, int, int]
    """Left, top, width and height of the picture in it, in pixels."""


def bare(picture: Tensor) -> Framed:
    """The picture (H, W, 3) uint8 alone; where a side is odd, it gains a black row or column."""
    height, width = picture.shape[:2]
    pixels = torch.zeros(even(height), even(width), 3, dtype=torch.uint8)
    pixels[:height, :width] = picture
    return Framed(pixels, (0, 0, width, height))


def with_captions(picture: Tensor, prompts: tuple[str, str], screen: tuple[int, int] | None, accent: Colour) -> Framed:
    """The picture (H, W, 3) uint8, and below it what it looks like and what it sounds like, under headings in the accent colour.

    Without a `screen` (even width, height) the picture keeps its pixels and the frame is as large as it needs; on a screen the picture is
    as large as there is room for, before a dark and blurred copy of itself. An empty prompt is left out.
    """
    height, width = picture.shape[:2]
    image = Image.fromarray(picture.numpy())
    if screen:
        captions = Captions(prompts, screen[0], LARGEST_LETTERS)
        scale = min(screen[0] / width, (screen[1] - captions.height - captions.margin) / height)
        image = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BICUBIC)
        frame = backdrop(image, screen)
    else:
        frame_width = max(width, NARROWEST) if any(map(clean, prompts)) else width
        captions = Captions(prompts, frame_width, min(12 + frame_width // 70, LARGEST_LETTERS))
        frame = Image.new("RGB", (even(captions.width), even(height + captions.height)), BACKGROUND)
    left, top = (frame.width - image.width) // 2, (frame.height - image.height - captions.height) // 2
    frame.paste(image, (left, top))
    captions.draw(frame, top + image.height, accent)
    return Framed(torch.from_numpy(np.array(frame)), (left, top, image.width, image.height))


class Captions:
    """The prompts in columns side by side, wrapped to a width in pixels."""

    def __init__(self, prompts: tuple[str, str], width: int, size: int) -> None:
        """Lay out letters `size` pixels high."""
        self.width, self.margin = width, size
        self.heading = Typeface("".join(HEADINGS), size * 3 // 4)
        filled = {heading: text for heading, text in zip(HEADINGS, map(clean, prompts), strict=True) if text}
        self.column = (width - self.margin) // max(len(filled), 1) - self.margin
        most = max(self.column, 1) * MAX_LINES  # a letter is a pixel wide at least; a prompt may be as long as a book
        filled = {heading: text[: most + 1] for heading, text in filled.items()}
        typefaces = {heading: Typeface(text, size) for heading, text in filled.items()}
        self.columns = [(heading, face, face.wrap(filled[heading], self.column, MAX_LINES)) for heading, face in typefaces.items()]
        self.height = max((self._text_top + face.line_height * len(lines) + self.margin for _, face, lines in self.columns), default=0)

    @property
    def _text_top(self) -> int:
        return self.margin + self.heading.line_height

    def draw(self, frame: Image.Image, top: int, accent: Colour) -> None:
        """Draw the columns below row `top` of a frame."""
        canvas = ImageDraw.Draw(frame)
        for index, (heading, typeface, lines) in enumerate(self.columns):
            left = self.margin + index * (self.column + self.margin)
            self.heading.draw(canvas, left, top + self.margin, self.column, [heading], accent)
            typeface.draw(canvas, left, top + self._text_top, self.column, lines, INK)


def backdrop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A dark, blurred copy of a picture that covers `size`."""
    small = ImageOps.fit(image, (size[0] // BACKDROP_SCALE, size[1] // BACKDROP_SCALE)).filter(ImageFilter.GaussianBlur(BACKDROP_BLUR))
    return small.point(lambda level: level * BACKDROP_BRIGHTNESS).resize(size, Image.Resampling.BICUBIC)


def stack(above: Tensor, below: Tensor) -> Tensor:
    """One picture (B, H, W, 3) of two of the same batch size; the lower one, of any size, is scaled to the upper one's width."""
    width = above.shape[2]
    height = max(1, round(below.shape[1] * width / below.shape[2]))
    if below.shape[1:3] != (height, width):
        below = F.interpolate(below.movedim(-1, 1), (height, width), mode="bilinear", antialias=True).movedim(1, -1)
    return torch.cat([above, above.new_zeros(len(above), GAP, width, 3), below], dim=1)


def even(side: int) -> int:
    return side + side % 2
