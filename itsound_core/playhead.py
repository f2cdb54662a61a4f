"""The playhead: a vertical line that moves over a picture in step with its sound (the videos of the paper's human study, A.3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .framing import Colour, Framed, bare
from .spectrogram import AUFFUSION, SpectrogramFormat

LINE_COLOUR: Colour = (255, 64, 32)
OUTLINE_COLOUR: Colour = (0, 0, 0)
PAGE, LONGEST = 4, 6
"""Width of a page, and of the widest picture that is shown whole, in heights of the picture: 10.24 s and 15.36 s of a spectrogram."""

Row = Sequence[tuple[float, float]]
"""Where a line is drawn at one time: (top, bottom) in shares of the picture's height, more than one for pictures below each other."""
Rows = Sequence[Row]
"""What the line runs through one after the other."""
ONE_ROW: Rows = (((0.0, 1.0),),)


def frame_count(seconds: float, fps: float) -> int:
    """Frames that show `seconds` of sound to its end; the last one is due for a shorter time where the sound ends within it."""
    # A product such as 10.24 * 25 is 256.00000000000006: rounding first keeps it from costing a frame.
    return math.ceil(round(seconds * fps, 6))


def spectrogram_seconds(height: int, width: int, rows: int = 1, fmt: SpectrogramFormat = AUFFUSION) -> float | None:
    """Seconds in which a line crosses a spectrogram of `rows` rows, 100 columns a second; None for a picture of another height."""
    return fmt.seconds(rows * width) if height == rows * fmt.n_mels else None


def rows_of(heights: Sequence[int], count: int, gap: int = 0) -> Rows:
    """The rows of pictures of these heights that stand below each other, `gap` lines apart, each of `count` equal rows."""
    whole = sum(heights) + gap * (len(heights) - 1)
    tops = [sum(heights[:index]) + gap * index for index in range(len(heights))]

    def row(index: int) -> Row:
        return [
            ((top + height * index / count) / whole, (top + height * (index + 1) / count) / whole)
            for top, height in zip(tops, heights, strict=True)
        ]

    return [row(index) for index in range(count)]


def page_starts(width: int, height: int) -> tuple[list[int], int]:
    """First columns of the pages that a picture is shown in, and their width; one page where it is at most LONGEST times as wide as high.

    Pages are as wide as PAGE heights or 1024 columns, whichever is more, or a little less, so that all are equally wide; the last one
    ends at the right edge. So a frame does not grow with its sound, and a video's cost grows with its length alone.
    """
    full = max(PAGE * height, 1024)
    if width <= max(LONGEST * height, 1024):
        return [0], width
    pages = -(-width // full)
    page = -(-width // pages)
    page += page % 2
    return [min(index * page, width - page) for index in range(pages)], page


def playhead_frames(
    pictures: Tensor,
    seconds: float,
    fps: float,
    crossing: float | None = None,
    frame: Callable[[Tensor], Framed] = bare,
    colour: Colour = LINE_COLOUR,
    rows: Rows = ONE_ROW,
    page_height: int | None = None,
) -> Iterator[Tensor]:
    """Frames of a video that plays `pictures` one after the other, each for `seconds`, with the line at the sound's place.

    `pictures` is (B, H, W, 3) in 0..1. The line needs `crossing` seconds through the picture, by default the length of the sound; at the
    end of it, it waits. It runs through `rows` one after the other, each from the left edge to the right one. A picture far wider than
    `page_height` (default H) is shown in pages that turn (`page_starts`). `frame` gives each page, (H, W', 3) uint8, its surroundings.
    Yields ceil(B x seconds x fps) uint8 frames (height, width, 3), drawn one at a time so that a long video needs no memory. A frame is on
    screen for 1 / fps: its line stands where the sound is in the middle of that time.
    """
    width = pictures.shape[2]
    starts, page_width = page_starts(width, page_height or pictures.shape[1])
    framed = shown = None
    for index in range(frame_count(len(pictures) * seconds, fps)):
        time = (index + 0.5) / fps
        item = min(int(time / seconds), len(pictures) - 1)
        passed = min((time - item * seconds) / (crossing or seconds), 1.0) * len(rows)
        row = min(int(passed), len(rows) - 1)
        column = (passed - row) * width
        page = min(int(column / page_width), len(starts) - 1)
        if framed is None or (item, page) != shown:
            start = starts[page]
            framed = frame((pictures[item, :, start : start + page_width] * 255.0).round().to(torch.uint8))
            shown = item, page
        yield draw_playhead(framed, (column - starts[page]) / page_width, colour, rows[row])


def draw_playhead(framed: Framed, position: float, colour: Colour = LINE_COLOUR, row: Row = ONE_ROW[0]) -> Tensor:
    """A copy of a frame, uint8 (height, width, 3), with a line over its picture at `position`, 0 the left edge, 1 the right.

    The line is antialiased, so that it moves by fractions of a column, and has a dark outline, so that it shows on bright pictures too.
    It is as high as each part of `row`.
    """
    left_edge, top, width, height = framed.box
    frame = framed.pixels.clone()
    thickness = max(2.0, height / 128.0)
    for above, below in row:
        first_line, last_line = top + round(above * height), top + round(below * height)
        picture = frame[first_line:last_line, left_edge : left_edge + width]
        for half_width, ink in ((thickness, OUTLINE_COLOUR), (thickness / 2.0, colour)):
            left, right = position * width - half_width, position * width + half_width
            first, last = max(math.floor(left), 0), min(math.ceil(right), width)
            columns = torch.arange(first, last)
            covered = ((columns + 1).clamp(max=right) - columns.clamp(min=left))[:, None]
            line = picture[:, first:last] * (1.0 - covered) + torch.tensor(ink, dtype=torch.float32) * covered
            picture[:, first:last] = line.round().to(torch.uint8)
    return frame
