"""Night scenes: a black sky, hills or the sea, and one large thing in them, drawn in tones or hatched as an engraving.

Canvases are float32 [256, 1024] in 0..1, row 0 at the top, and close on themselves along time. The sky stays near black, where a
spectrogram is silent. Hatching takes the spectrogram's own lines: harmonics of a tone on the mel axis, or the decay after onsets.
"""

from __future__ import annotations

import numpy as np
import torch

from itsound_core.spectrogram import AUFFUSION, band_frequencies

from .canvases import HEIGHT, WIDTH, paste

FLOATING = {"airplane", "bell"}
SWIMMING = {"fish"}
SAILING = {"ship"}
MIN_PITCH = 5.5  # pixels between engraved lines: the latent code, 8 x 8 pixels to 4 numbers, blurs finer ones

ROWS, COLUMNS = np.arange(HEIGHT, dtype=np.float32)[:, None], np.arange(WIDTH, dtype=np.float32)[None]


def ridge(base: float, height: float, waves: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Row of a skyline at every column, float [1024], a sum of waves that fit into the canvas whole times."""
    angle = COLUMNS[0] / WIDTH * 2 * np.pi
    swell = sum(np.sin(wave * angle + rng.uniform(0, 2 * np.pi)) * rng.uniform(0.4, 1) / wave for wave in waves)
    return base - height * np.asarray(swell)


def around(column: float) -> np.ndarray:
    """Distance of every column from one, the shorter way round, float [1, 1024]."""
    return np.abs((COLUMNS - column + WIDTH / 2) % WIDTH - WIDTH / 2)


def add_moon(canvas: np.ndarray, rng: np.random.Generator) -> None:
    radius = rng.uniform(12, 20)
    distance = np.hypot(around(rng.uniform(0, WIDTH)), ROWS - rng.uniform(24, 44))
    glow = np.where(distance < radius, 0.8, 0.2 * np.exp((radius - distance) / 18))
    np.maximum(canvas, glow, out=canvas)


def add_hills(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Two ranges, the nearer one lighter, each darker towards its foot."""
    waves = (2, 3, 5, 9, 14) if rng.random() < 0.4 else (1, 2, 3, 5)
    for base, height, tone in ((rng.uniform(150, 175), 26, 0.1), (rng.uniform(185, 200), 16, 0.17)):
        depth = ROWS - ridge(base, height, waves, rng)
        canvas[:] = np.where(depth > 0, np.clip(tone * (1.2 - depth / 120), 0.03, 1), canvas)


def add_ground(canvas: np.ndarray, base: float, rng: np.random.Generator) -> None:
    depth = ROWS - ridge(base, 6, (1, 2, 3), rng)
    canvas[:] = np.where(depth > 0, np.clip(0.3 - depth / 200, 0.05, 1), canvas)


def add_sea(canvas: np.ndarray, surface: float, rng: np.random.Generator) -> None:
    """Crests of waves below the surface, closer together in the distance."""
    depth = ROWS - surface
    phase = rng.uniform(0, 2 * np.pi)
    crests = np.sin(COLUMNS * 2 * np.pi * 14 / WIDTH + 0.9 * depth + phase) * np.sin(depth * 0.55)
    canvas[:] = np.where(depth > 0, 0.14 + 0.09 * crests, canvas)


def add_seabed(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Under water: dim light from above, and a bed with weeds."""
    canvas += 0.1 * np.exp(-ROWS / 30) * (1 + 0.5 * np.sin(COLUMNS * 2 * np.pi * 9 / WIDTH + ROWS * 0.3))
    add_ground(canvas, rng.uniform(228, 238), rng)
    for column in rng.uniform(0, WIDTH, rng.integers(4, 9)):
        sway = column + 7 * np.sin(ROWS / 11 + rng.uniform(0, 6))
        stem = (np.abs((COLUMNS - sway + WIDTH / 2) % WIDTH - WIDTH / 2) < 3) & (rng.uniform(150, 200) < ROWS)
        np.maximum(canvas, 0.28 * stem, out=canvas)


def scene(label: str, drawing: np.ndarray, firs: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """One thing two or three times, at least 60 % of the canvas tall where it stands for itself, in the surroundings it belongs to.

    Args:
        drawing: uint8 [2, h, w], gray level and alpha, cut to the ink.
        firs: drawings of trees for the background; none stand at sea or beside a tree.
    """
    canvas = np.zeros((HEIGHT, WIDTH), np.float32) + 0.05 * (ROWS / HEIGHT) ** 1.5
    if label in SWIMMING:
        add_seabed(canvas, rng)
    else:
        if rng.random() < 0.7:
            add_moon(canvas, rng)
        if label in SAILING:
            add_sea(canvas, rng.uniform(190, 205), rng)
        else:
            add_hills(canvas, rng)
            base = rng.uniform(212, 232)
            add_ground(canvas, base, rng)
            if label not in FLOATING | {"tree", "mountain"}:
                for _ in range(rng.integers(0, 5)):
                    fir, height = firs[rng.integers(len(firs))], rng.uniform(50, 85)
                    paste_standing(canvas, fir, rng.uniform(0, WIDTH), base + 4, height, 0.45)
    ratio = drawing.shape[2] / drawing.shape[1]
    height = min(HEIGHT * rng.uniform(0.64, 0.82), 0.46 * WIDTH / ratio)
    copies = int(np.clip(WIDTH / (height * ratio * 1.25), 2, 4))
    copies = int(rng.integers(2, copies + 1))
    offset, brightness = rng.uniform(0, WIDTH), rng.uniform(0.85, 1)
    for copy in range(copies):
        x = offset + (copy + rng.uniform(-0.06, 0.06)) * WIDTH / copies
        size = min(height * (1 if copy == 0 else rng.uniform(0.8, 1)), 0.95 * WIDTH / copies / ratio)
        if label in FLOATING | SWIMMING:
            y = min(rng.uniform(0.03, 0.3) * HEIGHT + size / 2, HEIGHT * 0.97 - size / 2)
            paste(canvas, drawing, x, y, size, size * ratio, brightness)
        else:
            foot = rng.uniform(214, 226) if label in SAILING else rng.uniform(232, 246)
            paste_standing(canvas, drawing, x, foot, size, brightness)
    return np.clip(canvas, 0, 1)


def paste_standing(canvas: np.ndarray, drawing: np.ndarray, x: float, foot: float, height: float, brightness: float) -> None:
    """Draw with the lower edge at row `foot`."""
    paste(canvas, drawing, x, foot - height / 2, height, height * drawing.shape[2] / drawing.shape[1], brightness)


def harmonic_pitch(fundamental: float) -> np.ndarray:
    """Rows between two harmonics of a tone (Hz) at every row of the mel axis, float [256], at least MIN_PITCH."""
    frequencies = band_frequencies(AUFFUSION).to(torch.float64).numpy()[::-1]  # row 0 is the highest band
    return np.maximum(fundamental / np.abs(np.gradient(frequencies)), MIN_PITCH)


def engraved(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Horizontal lines spaced as the harmonics of one tone are, thicker where the picture is brighter, with a slow vibrato."""
    pitch = harmonic_pitch(rng.uniform(110, 190))
    lines = np.cumsum(1 / pitch)[:, None] + rng.uniform(0, 1)
    vibrato = rng.uniform(0.05, 0.2) * np.sin(COLUMNS * 2 * np.pi * rng.integers(6, 14) / WIDTH + rng.uniform(0, 2 * np.pi))
    distance = 2 * np.abs((lines + vibrato) % 1 - 0.5)  # 0 on a line, 1 between two
    return np.clip(1.2 * canvas, 0, 1) * np.clip(3 * (0.1 + 0.95 * canvas - distance), 0, 1)


def stroked(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vertical strokes that begin sharply and fade, as notes do after their onsets; brighter parts fade more slowly."""
    count = rng.integers(40, 64)
    onsets = (np.arange(count) + rng.uniform(-0.2, 0.2, count)) * WIDTH / count
    since = ((COLUMNS[0] - onsets[:, None]) % WIDTH).min(axis=0)[None]
    return np.clip(1.25 * canvas * np.exp(-since / (4 + 26 * canvas)), 0, 1)


def hatched(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Engraved lines mostly, else strokes."""
    return engraved(canvas, rng) if rng.random() < 0.75 else stroked(canvas, rng)
