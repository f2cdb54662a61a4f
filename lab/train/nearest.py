"""The training canvas nearest to each of ten samples, side by side, so that copying would show.

    python -m lab.train.nearest lab/results/embedded --row image --output lab/results/embedded/nearest-image.png
    python -m lab.train.nearest lab/results/embedded --row audio --output lab/results/embedded/nearest-audio.png

Distance is the root mean square in the VAE's latent space, over every shift along time (a canvas may begin anywhere). It is printed beside
that from real canvases that were not learnt to their nearest training canvas.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .latent_code import LatentCode
from .train_unet import SOURCES, UNLEARNT, encoded, training_canvases


def nearest(latents: Tensor, others: Tensor, chunk: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """Root mean square distance, index and shift of the nearest of `others` (N, C, H, W) for each of `latents` (B, C, H, W).

    All circular shifts along W at once: |a - b|^2 = |a|^2 + |b|^2 - 2 <a, b>, and <a, shifted b> of all shifts is a correlation.
    """
    spectra = torch.fft.rfft(latents)
    size = latents[0].numel()
    best = torch.full((len(latents),), torch.inf)
    index, shift = torch.zeros(len(latents), dtype=torch.long), torch.zeros(len(latents), dtype=torch.long)
    for first in range(0, len(others), chunk):
        part = others[first : first + chunk]
        products = torch.fft.irfft(torch.einsum("bchw,nchw->bnw", spectra, torch.fft.rfft(part).conj()), n=latents.shape[-1])
        norms = latents.square().sum(dim=(1, 2, 3))[:, None, None] + part.square().sum(dim=(1, 2, 3))[None, :, None]
        distance, where = (norms - 2 * products).flatten(1).min(dim=1)
        closer = distance < best
        best = torch.where(closer, distance, best)
        index = torch.where(closer, first + where // latents.shape[-1], index)
        shift = torch.where(closer, where % latents.shape[-1], shift)
    return (best.clamp(min=0) / size).sqrt(), index, shift


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what `python -m lab.evaluate run` wrote")
    parser.add_argument("--row", default="image")
    parser.add_argument("--side", choices=SOURCES, help="whose training canvases; the row's own where it is a single modality")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    side = args.side or args.row
    if side not in SOURCES:
        parser.error(f"--side is needed for the row {args.row}: {', '.join(SOURCES)}")

    code = LatentCode.load(args.data / "latent_code.npz")
    learnt, labels = training_canvases(args.data, side)
    starts = np.cumsum([0, *map(len, learnt)])
    latents = encoded(code, learnt)

    samples = np.stack([np.asarray(Image.open(args.folder / args.row / f"{index:04d}.png")) for index in range(args.count)])
    distances, indices, shifts = nearest(code.encode(samples), latents)
    rows = []
    for sample, distance, index, shift in zip(samples, distances.tolist(), indices.tolist(), shifts.tolist(), strict=True):
        part = int(np.searchsorted(starts, index, side="right")) - 1
        twin = np.roll(learnt[part][index - starts[part]], shift * 8, axis=1)
        rows.append(np.hstack([sample, np.full((256, 16), 128, np.uint8), twin]))
        print(f"{len(rows) - 1}: {distance:.3f} to a canvas of {labels[index]}")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(rows)).resize((1032, 128 * len(rows)), Image.Resampling.LANCZOS).save(args.output)

    unlearnt = np.load(args.data / f"{UNLEARNT[side]}.npy", mmap_mode="r")
    chosen = np.random.default_rng(0).choice(len(unlearnt), min(50, len(unlearnt)), replace=False)
    real, _, _ = nearest(code.encode(np.array(unlearnt[np.sort(chosen)])), latents)
    print(f"samples {describe(distances)}; real canvases that were not learnt {describe(real)}; canvases vary by {latents.std():.3f}")


def describe(values: Tensor) -> str:
    return f"{values.mean():.3f} (sd {values.std():.3f}, least {values.min():.3f})"


if __name__ == "__main__":
    main()
