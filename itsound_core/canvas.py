"""What score distillation optimises: a picture as a network of its coordinates (paper A.1), or latents themselves."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class FourierCanvas(nn.Module):
    """One gray picture (1, 1, H, W) in 0..1: an MLP over random Fourier features of each pixel's position (Tancik et al. 2020).

    Features are the sine and cosine of 2 pi f . (x, y) with x and y in [0, 1) and `frequencies` vectors f drawn from a Gaussian of standard
    deviation `scale`. The MLP has `layers` hidden layers of 1 x 1 convolutions with ReLU and batch normalisation, and a sigmoid at its end.
    Normalisation is always over the picture's own pixels, as in training, so that what is seen is what is optimised. Weights and
    frequencies are drawn from `seed`, the same on every device; the frequencies are not part of the state, so a state goes with its seed.
    """

    features: Tensor

    def __init__(
        self,
        height: int = 256,
        width: int = 1024,
        frequencies: int = 128,
        scale: float = 10.0,
        hidden: int = 256,
        layers: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU's generator too
            directions = scale * torch.randn(frequencies, 2)
            widths = [2 * frequencies, *[hidden] * layers]
            blocks: list[nn.Module] = []
            for before, after in zip(widths[:-1], widths[1:], strict=True):
                blocks += [nn.Conv2d(before, after, 1), nn.ReLU(), nn.BatchNorm2d(after, track_running_stats=False)]
            self.mlp = nn.Sequential(*blocks, nn.Conv2d(hidden, 1, 1), nn.Sigmoid())
        y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
        angles = 2 * math.pi * torch.einsum("fc,chw->fhw", directions, torch.stack([x, y]))
        self.register_buffer("features", torch.cat([angles.sin(), angles.cos()])[None], persistent=False)

    def forward(self) -> Tensor:
        return self.mlp(self.features)


class LatentParameters(nn.Module):
    """Latents (1, channels, H, W) in a model's own scale, each a parameter, for models that work on latents.

    Beyond the paper: a step needs neither the network nor the VAE's encoder, forward and back, which are most of its cost on a CPU. They
    start as Gaussian noise of standard deviation `std`, drawn from `seed`, the same on every device.
    """

    def __init__(self, height: int = 32, width: int = 128, channels: int = 4, std: float = 0.1, seed: int = 0) -> None:
        super().__init__()
        self.latents = nn.Parameter(std * torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(seed)))

    def forward(self) -> Tensor:
        return self.latents
