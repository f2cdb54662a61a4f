"""A recording's frames, analysed, changed and put together again in pieces: what filters in time and frequency work on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .spectrogram import SpectrogramFormat, istft, stft

PIECE = 256
"""Frames of a recording at work at a time."""


@dataclass(frozen=True)
class Frames:
    """The analysis frames of samples `first` to `last` (excluded) of a recording of `total` samples.

    Frame k is the picture's column k: the hop of samples from first + k hop on. A frame's window is longer than its hop and reaches into
    the neighbours.
    """

    fmt: SpectrogramFormat
    first: int
    last: int
    total: int

    @property
    def columns(self) -> int:
        """Width of the picture: frames whose hop lies in the area."""
        return math.ceil((self.last - self.first) / self.fmt.hop_length)

    @property
    def _overlap(self) -> int:
        """Samples of a window on either side of its hop."""
        return (self.fmt.win_length - self.fmt.hop_length) // 2

    def reaching_in(self) -> Tensor:
        """Numbers of all frames whose windows reach into the area, (N,)."""
        reach = math.ceil(self._overlap / self.fmt.hop_length)
        return torch.arange(-reach, self.columns + reach)

    def masked(self, canvas: Tensor, frames: Tensor) -> Tensor:
        """A picture (1, H, columns) at frames (N,), (1, H, N): 0 where the window crosses a border of the area inside the recording.

        Where the area begins or ends with the recording itself, the outermost column goes on beyond.
        """
        inside = torch.ones_like(frames, dtype=torch.bool)
        if self.first > 0:
            inside &= frames >= math.ceil(self._overlap / self.fmt.hop_length)
        if self.last < self.total:
            inside &= frames < (self.last - self.first - self._overlap) // self.fmt.hop_length
        return canvas[..., frames.clamp(0, self.columns - 1)] * inside.to(canvas.device)

    def analyse(self, channel: Tensor, frames: Tensor) -> Tensor:
        """Spectrum (1, bins, N) of a channel (total,) at consecutive frames (N,); before and after the recording is silence."""
        begin, end = self._samples(frames)
        heard = F.pad(channel[max(begin, 0) : end], (max(-begin, 0), max(end - self.total, 0)))
        return stft(heard[None], self.fmt)[..., self._margin : -self._margin]

    def add(self, channel: Tensor, frames: Tensor, spectrum: Tensor) -> None:
        """Add the sound of a spectrum (1, bins, N) at consecutive frames (N,) to a channel (total,), in place, within the area."""
        begin, end = self._samples(frames)
        sound = istft(F.pad(spectrum, (self._margin, self._margin)), self.fmt)[0]
        inside = slice(max(begin, self.first), min(end, self.last))
        channel[inside] += sound[inside.start - begin : inside.stop - begin]

    @property
    def _margin(self) -> int:
        """Frames beside others that hold all of their windows."""
        return math.ceil(self.fmt.win_length / self.fmt.hop_length)

    def _samples(self, frames: Tensor) -> tuple[int, int]:
        """First and last (excluded) sample of consecutive frames and their margins; they may lie outside of the recording."""
        begin, end = int(frames[0]) - self._margin, int(frames[-1]) + 1 + self._margin
        return self.first + begin * self.fmt.hop_length, self.first + end * self.fmt.hop_length
