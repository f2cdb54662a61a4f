"""The playhead: a vertical line that moves over a picture in step with its sound (the videos of the paper's human study, A.3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from .framing import Colour, Framed, bare
from .spectrogram import AUFFUSION

LINE_COLOUR: Colour = (255, 64, 32)
OUTLINE_COLOUR: Colour = (0, 0, 0)


def frame_count(seconds: float, fps: float) -> int:
    """Frames that show `seconds` of sound to its end; the last one is due for a shorter time where the sound ends within it."""
    # A product such as 10.24 * 25 is 256.00000000000006: rounding first keeps it from costing a frame.
    return math.ceil(round(seconds * fps, 6))


def spectrogram_seconds(height: int, width: int) -> float | None:
    """Seconds in which a line crosses a spectrogram of that size, at its own 100 columns a second; None for a picture of another height."""
    return AUFFUSION.seconds(width) if height == AUFFUSION.n_mels else None


def playhead_frames(
    pictures: Tensor,
    seconds: float,
    fps: float,
    crossing: float | None = None,
    frame: Callable[[Tensor], Framed] = bare,
    colour: Colour = LINE_COLOUR,
) -> Iterator[Tensor]:
    """Frames of a video that plays `pictures` one after the other, each for `seconds`, with the line at the sound's place.

    `pictures` is (B, H, W, 3) in 0..1. The line needs `crossing` seconds from the left edge to the right one, by default the length of the
    sound; there it waits for the end. `frame` gives each picture, (H, W, 3) uint8, its surroundings. Yields ceil(B x seconds x fps) uint8
    frames (height, width, 3), drawn one at a time so that a long video needs no memory. A frame is on screen for 1 / fps: its line stands
    where the sound is in the middle of that time.
    """
    framed = shown = None
    for index in range(frame_count(len(pictures) * seconds, fps)):
        time = (index + 0.5) / fps
        item = min(int(time / seconds), len(pictures) - 1)
        if framed is None or item != shown:
            framed, shown = frame((pictures[item] * 255.0).round().to(torch.uint8)), item
        yield draw_playhead(framed, min((time - item * seconds) / (crossing or seconds), 1.0), colour)


def draw_playhead(framed: Framed, position: float, colour: Colour = LINE_COLOUR) -> Tensor:
    """A copy of a frame, uint8 (height, width, 3), with a line over its picture at `position`, 0 the left edge, 1 the right.

    The line is antialiased, so that it moves by fractions of a column, and has a dark outline, so that it shows on bright pictures too.
    """
    left_edge, top, width, height = framed.box
    frame = framed.pixels.clone()
    picture = frame[top : top + height, left_edge : left_edge + width]
    thickness = max(2.0, height / 128.0)
    for half_width, ink in ((thickness, OUTLINE_COLOUR), (thickness / 2.0, colour)):
        left, right = position * width - half_width, position * width + half_width
        first, last = max(math.floor(left), 0), min(math.ceil(right), width)
        columns = torch.arange(first, last)
        covered = ((columns + 1).clamp(max=right) - columns.clamp(min=left))[:, None]
        line = picture[:, first:last] * (1.0 - covered) + torch.tensor(ink, dtype=torch.float32) * covered
        picture[:, first:last] = line.round().to(torch.uint8)
    return frame
