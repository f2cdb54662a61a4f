"""Make workflows/inputs/hidden_picture.flac: a loop with a picture in it, for the template "04 Find a hidden picture" to find.

    python tools/hidden_picture.py      # a few seconds

Garzul's loop (CC0, see NOTICE), mono at 16 kHz, over a seeded wash of noise of ours that swells with the beat, so that there is sound
wherever the drawing is; then the drawing, ours too, as Imprint Recording lays it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parent.parent))
from itsound_core.imprint import Area, imprint_recording  # noqa: E402
from itsound_core.resampling import resample  # noqa: E402
from launch.environment import INPUTS  # noqa: E402

LOOP, HIDDEN = INPUTS / "loop_garzul.flac", INPUTS / "hidden_picture.flac"
RATE, SEED = 16000, 4
BEATS = 16
"""Swells of the noise in the loop's eight seconds."""
WASH = 0.12
"""How loud the noise is beside a loop of peak 1."""
RHO = 0.85
AREA = Area(start=0.6, seconds=6.8, low_hz=150.0, high_hz=7600.0)
SIZE = (680, 236)
"""Of the drawing, in pixels: columns and about as many rows as the area has."""


def wash(samples: int) -> Tensor:
    """Noise that is as loud in every octave, swelling with the beat, (samples,), at most 1."""
    generator = torch.Generator().manual_seed(SEED)
    spectrum = torch.fft.rfft(torch.randn(samples, generator=generator))
    frequencies = torch.fft.rfftfreq(samples, 1 / RATE)
    pink = torch.fft.irfft(spectrum / frequencies.clamp(min=60.0).sqrt(), samples)
    phase = torch.arange(samples) / samples * BEATS
    return pink / pink.abs().max() * (0.55 + 0.45 * torch.exp(-4.0 * (phase % 1.0)))


def drawing() -> Tensor:
    """A face that winks and three words, dark on white, (1, H, W)."""
    picture = Image.new("L", SIZE, 255)
    draw = ImageDraw.Draw(picture)
    draw.ellipse((14, 12, 224, 222), outline=0, width=13)
    draw.ellipse((70, 72, 98, 112), fill=0)
    draw.line((138, 94, 176, 94), fill=0, width=13)
    draw.arc((66, 84, 172, 182), 20, 160, fill=0, width=13)
    for top, line in ((22, "YOU"), (122, "FOUND ME")):
        draw.text((258, top), line, 0, ImageFont.load_default(78), stroke_width=3, stroke_fill=0)
    return torch.from_numpy(np.asarray(picture, np.float32))[None] / 255


def main() -> None:
    samples, rate = soundfile.read(LOOP, dtype="float32", always_2d=True)
    loop = resample(torch.from_numpy(samples.mean(1)), rate, RATE)
    song = loop / loop.abs().max() + WASH * wash(len(loop))
    song = imprint_recording(drawing(), song[None] * (0.9 / song.abs().max()), RATE, RHO, "contain", AREA)
    soundfile.write(HIDDEN, song[0].numpy(), RATE, subtype="PCM_16")
    print(f"{HIDDEN.name}: {HIDDEN.stat().st_size / 1000:.0f} kB, {song.shape[-1] / RATE:.2f} s")


if __name__ == "__main__":
    main()
