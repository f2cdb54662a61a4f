"""Draw and play the files of workflows/inputs that are of our own making: a lighthouse on black, rain, and a loop of plucked tones.

    python tools/input_media.py

Every number comes from one seed, so that a run gives the same files.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image, ImageDraw, ImageFilter

INPUTS = Path(__file__).resolve().parent.parent / "workflows" / "inputs"
SEED = 1
RATE = 44100
LOOP_SECONDS = 7.68
"""Two turns of a picture 384 pixels wide, and sixteen beats."""


def lighthouse(width: int = 320, height: int = 256, scale: int = 4) -> Image.Image:
    """A lighthouse at night, bold enough to be seen in a sound, and black where it shall be silent."""
    picture = Image.new("L", (width * scale, height * scale))
    draw = ImageDraw.Draw(picture)

    def polygon(points: list[tuple[float, float]], level: int) -> None:
        draw.polygon([(x * scale, y * scale) for x, y in points], level)

    beam = Image.new("L", picture.size)
    rays = ImageDraw.Draw(beam)
    for side in (-1, 1):
        rays.polygon([(scale * (160 + side * x), scale * y) for x, y in ((10, 50), (150, 14), (150, 96), (10, 62))], 150)
    picture.paste(beam.filter(ImageFilter.GaussianBlur(3 * scale)))
    polygon([(136, 214), (146, 78), (174, 78), (184, 214)], 255)
    for top in (98, 142, 186):  # stripes
        left, right = (160 + side * (14 + 10 * (top + 10 - 78) / 136) for side in (-1, 1))
        polygon([(left, top), (right, top), (right + 1.4, top + 20), (left - 1.4, top + 20)], 60)
    polygon([(138, 78), (182, 78), (182, 70), (138, 70)], 255)
    polygon([(147, 70), (173, 70), (173, 44), (147, 44)], 110)
    draw.ellipse([scale * 152, scale * 49, scale * 168, scale * 65], 255)
    polygon([(142, 44), (178, 44), (160, 22)], 255)
    polygon([(96, 232), (118, 208), (202, 208), (226, 232)], 130)
    for row, level in ((222, 210), (234, 170), (246, 130)):  # waves
        crests = [(x * scale, scale * (row + 4 * math.sin(x / 11 + row))) for x in range(12, width - 11)]
        draw.line(crests, level, width=3 * scale, joint="curve")
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def rain(random: np.random.Generator, seconds: float = LOOP_SECONDS) -> np.ndarray:
    """Rain on leaves, (T, 2): a hiss that swells, and drops, each a bubble's falling tone."""
    length = round(seconds * RATE)
    spectrum = np.fft.rfft(random.standard_normal((length, 2)), axis=0)
    hertz = np.fft.rfftfreq(length, 1 / RATE)[:, None]
    hiss = np.fft.irfft(spectrum * (hertz / (hertz + 400.0)) / (1.0 + (hertz / 5000.0) ** 2), length, axis=0)
    swell = 1.0 + 0.4 * np.sin(2 * np.pi * np.arange(length) / length * 2)[:, None]
    sound = 0.05 * hiss / hiss.std() * swell
    for start in np.sort(random.uniform(0, length, 260)).astype(int):
        duration, pitch, level, side = random.uniform(0.015, 0.07), random.uniform(700, 4500), random.exponential(0.12), random.uniform()
        t = np.arange(round(5 * duration * RATE)) / RATE
        drop = level * np.exp(-t / duration) * np.sin(2 * np.pi * pitch * (t + 2.0 * t**2)) * np.minimum(1.0, t / 0.001)
        at = (start + np.arange(len(t))) % length
        sound[at] += drop[:, None] * np.sqrt([1.0 - side, side])
    return sound


def plucked(random: np.random.Generator) -> np.ndarray:
    """A loop of plucked tones over two basses, (T, 2), whose end goes on into its beginning."""
    length = round(LOOP_SECONDS * RATE)
    sound = np.zeros((length, 2))
    scale = 220.0 * 2.0 ** (np.array([0, 3, 5, 7, 10, 12, 15, 17, 19, 22]) / 12)
    step = LOOP_SECONDS / 32

    def note(beat: float, pitch: float, level: float, decay: float, side: float) -> None:
        t = np.arange(round(min(5 * decay, LOOP_SECONDS) * RATE)) / RATE
        tone = sum(np.sin(2 * np.pi * k * pitch * t + k) * np.exp(-t * k**0.7 / decay) / k**1.3 for k in range(1, 9) if k * pitch < 12000)
        attack = 0.3 * random.standard_normal(len(t)) * np.exp(-t / 0.006)
        at = (round(beat * step * RATE) + np.arange(len(t))) % length
        sound[at] += level * (tone + attack)[:, None] * np.minimum(1.0, t / 0.002)[:, None] * np.sqrt([1.0 - side, side])

    degree = 4
    for beat in range(32):
        if random.uniform() < 0.75 or beat % 8 == 0:
            degree = int(np.clip(degree + random.integers(-2, 3), 0, len(scale) - 1))
            note(beat, scale[degree], random.uniform(0.5, 1.0), random.uniform(0.25, 0.6), random.uniform(0.2, 0.8))
    for beat, pitch in ((0, 55.0), (8, 55.0), (16, 43.65), (24, 49.0)):
        note(beat, 2 * pitch, 1.0, 1.2, 0.5)
    return sound


def write(name: str, sound: np.ndarray) -> None:
    soundfile.write(INPUTS / name, 0.9 * sound / np.abs(sound).max(), RATE, format="OGG", subtype="VORBIS", compression_level=0.6)


def main() -> None:
    random = np.random.default_rng(SEED)
    lighthouse().save(INPUTS / "lighthouse.png", optimize=True)
    write("rain.ogg", rain(random))
    write("plucked_loop.ogg", plucked(random))
    for name in ("lighthouse.png", "rain.ogg", "plucked_loop.ogg"):
        print(f"{name}: {(INPUTS / name).stat().st_size} bytes")


if __name__ == "__main__":
    sys.exit(main())
