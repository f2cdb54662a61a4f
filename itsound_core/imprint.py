"""Imprint (paper A.1): darken a sound where a picture is dark, in its spectrogram or in the recording itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from .frames import PIECE, Frames
from .progress import OnStep
from .spectrogram import (
    AUFFUSION,
    SpectrogramFormat,
    band_frequencies,
    bin_frequencies,
    format_at,
    hz_to_mel,
    log_mel_to_picture,
    magnitude,
    mel_filters,
    mel_to_log_mel,
)

Fit = Literal["cover", "contain", "stretch", "tile"]
FITS: tuple[Fit, ...] = get_args(Fit)
Scale = Literal["mel", "linear"]
SCALES: tuple[Scale, ...] = get_args(Scale)


@dataclass(frozen=True)
class Area:
    """The part of a sound over which a picture is laid: a rectangle in time and frequency.

    `scale` says where its rows lie: equally far apart in mel, as in the spectrograms of this pack, or in Hz. On either, 0 to 8000 Hz are
    the 256 rows of Auffusion's spectrogram (0 to 10000 Hz the 512 of Riffusion's), and other ranges are as high as they are there, so that
    proportions are those that a viewer shows.
    """

    start: float = 0.0
    """Seconds from the beginning."""
    seconds: float = 0.0
    """Length; 0 is to the end."""
    low_hz: float = 0.0
    high_hz: float = AUFFUSION.f_max
    scale: Scale = "mel"
    fmt: SpectrogramFormat = AUFFUSION
    """Whose rows are counted."""

    def span(self, total: int, per_second: float) -> tuple[int, int]:
        """First and last (excluded) of a sound's `total` columns or samples, `per_second` of them a second."""
        end = round((self.start + self.seconds) * per_second) if self.seconds else total
        return round(self.start * per_second), min(end, total)

    @property
    def rows(self) -> int:
        """Height of the area; less than 1 where no row lies between low_hz and high_hz."""
        low, high = self._position(torch.tensor([self.low_hz, self.high_hz], dtype=torch.float64))
        return round(float(high - low)) - 1

    def rows_at(self, frequencies: Tensor) -> Tensor:
        """Row of each frequency (N,) in Hz, fractional, counted from the top: -1 at high_hz, `rows` at low_hz, as mel bands lie."""
        low, high = self._position(torch.tensor([self.low_hz, self.high_hz], dtype=torch.float64))
        return (high - self._position(frequencies)) / (high - low) * (self.rows + 1) - 1

    def contains(self, frequencies: Tensor) -> Tensor:
        """Which of the frequencies (N,) in Hz lie in the area, (N,) bool."""
        return (frequencies >= self.low_hz) & (frequencies <= self.high_hz)

    def _position(self, hz: Tensor) -> Tensor:
        """Rows of a spectrogram above 0 Hz."""
        position = partial(hz_to_mel, scale=self.fmt.mel_scale) if self.scale == "mel" else torch.Tensor.double
        return position(hz) / position(torch.tensor(self.fmt.f_max, dtype=torch.float64)) * (self.fmt.n_mels + 1)


WHOLE = Area()


def darkness(image: Tensor, invert: bool = False) -> Tensor:
    """gray(1 - image), or gray(image) where inverted, (B, H, W) in 0..1, of an image (B, C, H, W) in 0..1; gray is the channel mean.

    With two or four channels the last one is alpha: what is transparent darkens nothing, inverted or not.
    """
    colours, alpha = (image[:, :-1], image[:, -1]) if image.shape[1] in (2, 4) else (image, 1.0)
    return (colours if invert else 1.0 - colours).mean(1) * alpha


def fit_to(image: Tensor, height: int, width: int, fit: Fit = "cover") -> Tensor:
    """Resize (B, H, W) to (B, height, width), antialiased.

    "cover" keeps the proportions and crops what sticks out, "contain" keeps them and pads with 0, both centred; "stretch" distorts;
    "tile" keeps them at full height and repeats the image from left to right, the last one cut.
    """
    source_height, source_width = image.shape[-2:]
    if fit == "cover":
        crop_height = min(source_height, max(1, round(source_width * height / width)))
        crop_width = min(source_width, max(1, round(source_height * width / height)))
        top, left = (source_height - crop_height) // 2, (source_width - crop_width) // 2
        image = image[:, top : top + crop_height, left : left + crop_width]
    inner_height, inner_width = height, width
    if fit in ("contain", "tile"):
        scale = height / source_height
        if fit == "contain":
            scale = min(scale, width / source_width)
        inner_height, inner_width = max(1, round(source_height * scale)), max(1, round(source_width * scale))
    resized = F.interpolate(image[:, None], (inner_height, inner_width), mode="bilinear", antialias=True)[:, 0]
    if fit == "tile":
        return resized.repeat(1, 1, math.ceil(width / inner_width))[..., :width]
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    return F.pad(resized, (left, width - inner_width - left, top, height - inner_height - top))


def imprint(image: Tensor, spectrogram: Tensor, rho: float = 0.5, fit: Fit = "cover", area: Area = WHOLE, invert: bool = False) -> Tensor:
    """spectrogram * (1 - rho * gray(1 - image)) (paper A.1), (B, n_mels, frames) in 0..1, in the area's format.

    Where silence is white, the same with both negatives: 1 - (1 - spectrogram) * (1 - rho * gray(image)). So the picture is seen as it is,
    and its bright parts quieten the sound.

    `image` is (B, C, H, W) in 0..1 of any size and channel count, `spectrogram` (B, n_mels, frames) in 0..1 with high frequencies at the
    top. The image is fitted to the area as `fit_to` says; where it does not reach, the spectrogram stays as it is. A larger rho (0..1)
    gives a clearer picture and a worse sound. A single image or spectrogram serves the whole batch of the other. Both lie on one device.
    Raises ValueError when both are batches of different sizes.
    """
    if image.shape[0] != spectrogram.shape[0] and 1 not in (image.shape[0], spectrogram.shape[0]):
        raise ValueError(
            f"{image.shape[0]} images cannot be imprinted on {spectrogram.shape[0]} spectrograms. "
            "Give as many images as spectrograms, or only one of either."
        )
    frames = spectrogram.shape[-1]
    fmt = area.fmt
    first, last = area.span(frames, fmt.sample_rate / fmt.hop_length)
    white = bool(fmt.silence)
    quieted = fit_to(darkness(image.float(), invert ^ white), area.rows, last - first, fit)
    laid = at_frequencies(quieted, area, band_frequencies(fmt).flip(0))
    kept = 1.0 - rho * F.pad(laid, (first, frames - last))
    return 1.0 - (1.0 - spectrogram) * kept if white else spectrogram * kept


def imprint_recording(
    image: Tensor,
    waveform: Tensor,
    rate: int,
    rho: float = 0.5,
    fit: Fit = "cover",
    area: Area = WHOLE,
    invert: bool = False,
    on_step: OnStep | None = None,
) -> Tensor:
    """A recording (channels, T) at `rate` Hz, darkened as `imprint` darkens its spectrogram, with its own phase: (channels, T).

    `image` is (C, H, W) in 0..1. Each channel is filtered alone: its short-time spectrum is multiplied by exp(-rho d x r), where d is the
    image's darkness, x the channel's own spectrogram picture (at a peak of 0.95, so that loudness does not matter) and r its range in
    nepers: what turns a picture's x into x (1 - rho d). Only windows that lie inside the area are changed, except at the recording's own
    ends: samples outside of it stay as they are to the bit, and its border is a fade of half a window (32 ms).

    It goes in pieces of PIECE frames; on_step is called after each, with the pieces of all channels. `area` must end within the recording.
    Image and recording lie on one device.
    """
    fmt = format_at(rate)
    frames = Frames(fmt, *area.span(waveform.shape[-1], rate), waveform.shape[-1])
    dark = fit_to(darkness(image.float()[None], invert), area.rows, frames.columns, fit)
    picture_of = _BinPictures(fmt, waveform.device)
    pieces = frames.reaching_in().split(PIECE)
    result = waveform.clone()
    for channel, (before, after) in enumerate(zip(waveform, result, strict=True)):
        # As loud as AudioToSpectrogram makes it, where magnitudes are those of windows at 16 kHz.
        level = AUFFUSION.peak / torch.linalg.vector_norm(before, math.inf).clamp(min=1e-30) * (AUFFUSION.win_length / fmt.win_length)
        for index, piece in enumerate(pieces):
            spectrum = frames.analyse(before, piece)
            mask = at_frequencies(frames.masked(dark, piece), area, bin_frequencies(fmt))
            change = torch.expm1(-rho * fmt.log_range * mask * picture_of(spectrum * level))
            frames.add(after, piece, spectrum * change)
            if on_step:
                on_step(channel * len(pieces) + index + 1, len(waveform) * len(pieces))
    return result


class _BinPictures:
    """How bright a spectrum is in its own picture: (B, bins, N) complex to (B, bins, N) in 0..1."""

    def __init__(self, fmt: SpectrogramFormat, device: torch.device) -> None:
        self._filters = mel_filters(fmt, device)
        self._rows = Area(high_hz=fmt.f_max).rows_at(bin_frequencies(fmt))

    def __call__(self, spectrum: Tensor) -> Tensor:
        return _at_rows(log_mel_to_picture(mel_to_log_mel(self._filters @ magnitude(spectrum))), self._rows)


def at_frequencies(canvas: Tensor, area: Area, frequencies: Tensor) -> Tensor:
    """A picture (B, area.rows, W) that covers the area, at frequencies (N,) in Hz on the host: (B, N, W), 0 outside of it."""
    laid = canvas.new_zeros(canvas.shape[0], len(frequencies), canvas.shape[-1])
    inside = area.contains(frequencies)
    laid[:, inside] = _at_rows(canvas, area.rows_at(frequencies[inside]))
    return laid


def _at_rows(picture: Tensor, rows: Tensor) -> Tensor:
    """A picture (B, H, W) at fractional rows (N,) on the host, linearly interpolated: (B, N, W). Outer rows go on beyond the edges."""
    rows = rows.clamp(0, picture.shape[1] - 1)
    above = rows.long()
    below = (above + 1).clamp(max=picture.shape[1] - 1)
    return torch.lerp(picture[:, above], picture[:, below], (rows - above).to(picture)[:, None])
