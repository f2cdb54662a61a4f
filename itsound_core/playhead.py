"""The playhead: a vertical line that moves over a picture in step with its sound (the videos of the paper's human study, A.3)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

LINE_COLOUR = (255.0, 64.0, 32.0)
OUTLINE_COLOUR = (0.0, 0.0, 0.0)


def frame_count(seconds: float, fps: float) -> int:
    """Frames that show `seconds` of sound to its end; the last one may last longer than the sound."""
    # A product such as 10.24 * 25 is 256.00000000000006: rounding first keeps it from costing a frame.
    return math.ceil(round(seconds * fps, 6))


def playhead_frames(pictures: Tensor, seconds: float, fps: float) -> Iterator[Tensor]:
    """Frames of a video that plays `pictures` one after the other, each for `seconds`, with the line at the sound's place.

    `pictures` is (B, H, W, 3) in 0..1. Yields ceil(B x seconds x fps) uint8 frames (H, W, 3), drawn one at a time so that a long
    video needs no memory. A frame is on screen for 1 / fps: its line stands where the sound is in the middle of that time.
    """
    levels = (pictures * 255.0).round().to(torch.uint8)
    for index in range(frame_count(len(levels) * seconds, fps)):
        played = min((index + 0.5) / fps / seconds, float(len(levels)))
        item = min(int(played), len(levels) - 1)
        yield draw_playhead(levels[item], played - item)


def draw_playhead(picture: Tensor, position: float) -> Tensor:
    """A copy of `picture` (uint8, (H, W, 3)) with a line at `position`, 0 the left edge, 1 the right.

    The line is antialiased, so that it moves by fractions of a column, and has a dark outline, so that it shows on bright pictures too.
    """
    height, width = picture.shape[:2]
    thickness = max(2.0, height / 128.0)
    frame = picture.clone()
    for half_width, colour in ((thickness, OUTLINE_COLOUR), (thickness / 2.0, LINE_COLOUR)):
        left, right = position * width - half_width, position * width + half_width
        first, last = max(math.floor(left), 0), min(math.ceil(right), width)
        columns = torch.arange(first, last, device=frame.device)
        covered = ((columns + 1).clamp(max=right) - columns.clamp(min=left))[:, None]
        line = frame[:, first:last] * (1.0 - covered) + torch.tensor(colour, device=frame.device) * covered
        frame[:, first:last] = line.round().to(torch.uint8)
    return frame
