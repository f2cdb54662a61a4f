"""A scatter plot of picture scores against sound scores."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .ranking import on_front

SIZE, MARGIN = 768, 88
SUPERSAMPLING = 2
BACKGROUND, GRID, INK = (18, 18, 24), (52, 52, 62), (222, 222, 230)
POINT, FRONT = (96, 140, 220), (255, 176, 64)
TICKS = 6


def scatter_plot(picture: Tensor, sound: Tensor) -> Tensor:
    """RGB (768, 768, 3) in 0..1: a numbered point for each of N samples, sound score to the right, picture score up.

    Samples on the Pareto front are orange, and a line joins them.
    """
    image = Image.new("RGB", (SUPERSAMPLING * SIZE,) * 2, BACKGROUND)
    draw = ImageDraw.Draw(image)
    small, large = (ImageFont.load_default(SUPERSAMPLING * points) for points in (15, 18))
    x_axis, y_axis = Axis(sound, MARGIN, SIZE - MARGIN / 2), Axis(picture, SIZE - MARGIN, MARGIN / 2)

    def scaled(*pixels: float) -> list[float]:
        return [SUPERSAMPLING * pixel for pixel in pixels]

    left, right, bottom, top = x_axis.start, x_axis.end, y_axis.start, y_axis.end
    for value in x_axis.ticks:
        x = x_axis.place(value)
        draw.line(scaled(x, bottom, x, top), GRID, SUPERSAMPLING)
        draw.text(scaled(x, bottom + 10), f"{value:g}", INK, small, anchor="mt")
    for value in y_axis.ticks:
        y = y_axis.place(value)
        draw.line(scaled(left, y, right, y), GRID, SUPERSAMPLING)
        draw.text(scaled(left - 10, y), f"{value:g}", INK, small, anchor="rm")
    draw.text(scaled((left + right) / 2, SIZE - 22), "sound score, %", INK, large, anchor="mm")
    title = Image.new("L", (SUPERSAMPLING * 240, SUPERSAMPLING * 28))
    ImageDraw.Draw(title).text((title.width / 2, title.height / 2), "picture score, %", 255, large, anchor="mm")
    title = title.rotate(90, expand=True)
    at = (SUPERSAMPLING * 8, int(SUPERSAMPLING * (top + bottom) / 2 - title.height / 2))
    image.paste(INK, (*at, at[0] + title.width, at[1] + title.height), title)

    points = [(x_axis.place(x), y_axis.place(y)) for x, y in zip(sound.tolist(), picture.tolist(), strict=True)]
    front = on_front(picture, sound).tolist()
    joined = sorted(point for point, best in zip(points, front, strict=True) if best)
    draw.line([tuple(scaled(*point)) for point in joined], FRONT, 2 * SUPERSAMPLING)
    for (x, y), best in zip(points, front, strict=True):
        draw.ellipse(scaled(x - 6, y - 6, x + 6, y + 6), FRONT if best else POINT)
    for number, (x, y) in enumerate(points):
        draw.text(scaled(x + 9, y - 9), str(number), INK, small, anchor="lb")
    return torch.from_numpy(np.asarray(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)).astype(np.float32) / 255)


class Axis:
    """Values to pixels from `start` to `end`, with round ticks and room around the values."""

    def __init__(self, values: Tensor, start: float, end: float) -> None:
        lowest, highest = float(values.min()), float(values.max())
        room = 0.1 * (highest - lowest) or 1.0
        self.low, self.high, self.start, self.end = lowest - room, highest + room, start, end
        step = _round_up((self.high - self.low) / TICKS)
        self.ticks = [step * i for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]

    def place(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _round_up(step: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50, ... at any power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(round(mantissa * power, 12) for mantissa in (1, 2, 5, 10) if mantissa * power >= step)
