"""Loss by noise level: how well a noise predictor does on fixed canvases with fixed noise, which two trainings can be compared by.

The mean loss of a training says little: it is made of noise levels whose losses differ twentyfold, and of other canvases each time. What
stands where is decided at t >= 850.
"""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

LEVELS = (960, 860, 720, 560, 160)  # timesteps of 1000


class NoiseLevels:
    """Losses on whole canvases, appended to a file.

    Args:
        latents: (N, 4, h, w) scaled latents.
        texts: (N, 77, width) embedding of a prompt for each.
        alphas_cumprod: (1000,), the schedule.
        file: CSV, a line a call: step, then the loss at each of LEVELS.
        batch: canvases at once, for a device with room for more than one.

    The noise is the same on every device.
    """

    def __init__(self, latents: Tensor, texts: Tensor, alphas_cumprod: Tensor, file: Path, seed: int = 0, batch: int = 1):
        self.latents, self.texts, self.alphas, self.file, self.batch = latents, texts, alphas_cumprod, file, batch
        self.noise = torch.randn((len(LEVELS), *latents.shape), generator=torch.Generator().manual_seed(seed)).to(latents.device)

    @torch.no_grad()
    def losses(self, unet: UNet2DConditionModel) -> list[float]:
        """Mean square error of the predicted noise at each of LEVELS, over all canvases, in float32."""
        means = []
        for level, noise in zip(LEVELS, self.noise, strict=True):
            alpha = self.alphas[level]
            noisy = alpha.sqrt() * self.latents + (1 - alpha).sqrt() * noise
            parts = zip(noisy.split(self.batch), self.texts.split(self.batch), strict=True)
            predicted = torch.cat([unet(part, level, text).sample for part, text in parts])
            means.append((predicted - noise).square().mean().item())
        return means

    def __call__(self, unet: UNet2DConditionModel, step: int) -> None:
        losses = [f"{loss:.5f}" for loss in self.losses(unet)]
        new = not self.file.exists()
        with self.file.open("a", newline="") as file:
            table = csv.writer(file)
            if new:
                table.writerow(["step", *(f"t = {level}" for level in LEVELS)])
            table.writerow([step, *losses])
        print(f"{self.file.stem} at step {step}:", *(f"t {level} {loss}" for level, loss in zip(LEVELS, losses, strict=True)), flush=True)
