"""How close the embedded vocoder comes to the picture it is given, beside Griffin-Lim: re-encode the audio and compare.

    python -m lab.train.evaluate_vocoder [--data data] [--vocoder models/embedded-audio/vocoder] [--count 56]

Held-out clips of sounds.py and development canvases of canvases.py, `--count` of each, evenly spread over the classes. A canvas brighter
than a waveform within -1..1 can be is compared at the level that can be reached, for both methods. Mean and standard deviation over items.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from itsound_core.cycle import cycle_consistency
from itsound_core.griffin_lim import griffin_lim
from itsound_core.spectrogram import log_mel_to_picture, picture_to_log_mel, picture_to_mel
from itsound_core.vocoder import load_vocoder, replace_magnitude

from .train_vocoder import REPOSITORY, reachable

DECIBELS_PER_NEPER = 20 / math.log(10)


@torch.inference_mode()
def evaluate(pictures: np.ndarray, folder: Path, count: int) -> dict[str, list[tuple[float, float, float]]]:
    """(error in dB, correlation, seconds) of each picture, for each method."""
    vocoder = load_vocoder(folder)
    methods = {
        "HiFi-GAN": lambda picture: vocoder(picture_to_log_mel(picture)),
        "Griffin-Lim": lambda picture: griffin_lim(picture_to_mel(picture)),
        "HiFi-GAN's phase": lambda picture: replace_magnitude(vocoder(picture_to_log_mel(picture)), picture_to_mel(picture)),
    }
    results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in methods}
    for i in np.linspace(0, len(pictures) - 1, count).astype(int):
        picture = torch.from_numpy(pictures[i : i + 1].astype(np.float32)) / 255
        audible = log_mel_to_picture(reachable(picture_to_log_mel(picture)))
        for name, method in methods.items():
            start = time.perf_counter()
            waveform: Tensor = method(audible)
            seconds = time.perf_counter() - start
            cycle = cycle_consistency(audible, waveform)
            results[name].append((cycle.error_db.item(), cycle.correlation.item(), seconds))
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--vocoder", type=Path, default=REPOSITORY / "models" / "embedded-audio" / "vocoder")
    parser.add_argument("--count", type=int, default=56)
    options = parser.parse_args()
    for name in ("sounds/heldout", "pictures/dev"):
        print(f"{name}, {options.count} items")
        results = evaluate(np.load(options.data / f"{name}.npy", mmap_mode="r"), options.vocoder, options.count)
        for method, rows in results.items():
            (error, correlation, seconds), (spread, varies, _) = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1)
            print(
                f"  {method:17} {error:5.2f} +- {spread:4.2f} dB ({error / DECIBELS_PER_NEPER:.3f} nepers), "
                f"correlation {correlation:.3f} +- {varies:.3f}, {seconds:.2f} s each"
            )
