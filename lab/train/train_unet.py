"""Train one of the two embedded UNets on the linear latent code, within a budget of wall-clock minutes on one CPU core.

    python -m lab.train.train_unet --side image --data data --minutes 190
    python -m lab.train.train_unet --side audio --data data --minutes 150

Needs data/latent_code.npz, data/text-<side>/embeddings.pt, data/pictures/typical.npy or data/sounds/{train,pairs}.npy; writes
data/unet-<side>/checkpoint.pt every five minutes and data/unet-<side>/log.csv. With --resume and more --minutes it goes on from there, also
after the text encoder was trained anew: cross-attention learns the new embeddings within some hundred steps. Noise prediction on SD 1.5's
schedule, 10 % empty prompts.

The UNets are convolutional, so most of the training runs on windows of the canvas (as SD 1.5, trained at 512 x 512, is used at 256 x 1024);
the last share of the budget runs at full width.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from .denoiser_training import TRAINING_STEPS, add_arguments, diffuse, draw_timesteps, train
from .latent_code import LatentCode

SOURCES = {"image": ("pictures/typical",), "audio": ("sounds/train", "sounds/pairs")}
WIDTHS = {"image": (32, 64, 128), "audio": (32, 64, 96)}
SNR_GAMMA = 1.0


def build_unet(widths: tuple[int, ...], text_width: int = 128) -> UNet2DConditionModel:
    """A small relative of SD 1.5's UNet; attention only at the lowest level, where a full canvas is 8 x 32 positions."""
    lower = len(widths) - 1
    return UNet2DConditionModel(
        sample_size=32,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * lower + ("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * lower,
        cross_attention_dim=text_width,
        attention_head_dim=4,  # diffusers' name for the number of heads
    )


def alphas_cumprod() -> Tensor:
    """SD 1.5's schedule, (1000,)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TRAINING_STEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1.0 - betas, dim=0).float()


def training_canvases(data: Path, side: str) -> tuple[list[np.ndarray], list[str]]:
    """Memory-mapped canvases (N, 256, 1024) uint8 of each source of a side, and the class of every one of them in that order."""
    canvases = [np.load(data / f"{source}.npy", mmap_mode="r") for source in SOURCES[side]]
    manifests = [json.loads((data / f"{source}.json").read_text()) for source in SOURCES[side]]
    return canvases, [entry["class"] for manifest in manifests for entry in manifest]


def encoded(code: LatentCode, canvases: list[np.ndarray]) -> Tensor:
    """Scaled latents (N, 4, 32, 128) of all the canvases."""
    return torch.cat([code.encode(np.array(part[i : i + 64])) for part in canvases for i in range(0, len(part), 64)])


class Windows:
    """Random windows of the training canvases as scaled latents, with the embedding of a random prompt of what they show.

    Any canvas may begin anywhere: a sound can, and a row of drawings closes on itself.
    """

    def __init__(self, data: Path, side: str):
        canvases, self.labels = training_canvases(data, side)
        self.latents = encoded(LatentCode.load(data / "latent_code.npz"), canvases)
        text = torch.load(data / f"text-{side}" / "embeddings.pt", weights_only=True)
        self.null = text.pop("").float()
        self.text = text

    def draw(self, batch: int, width: int, generator: torch.Generator, null_share: float) -> tuple[Tensor, Tensor]:
        """(batch, 4, 32, width) latents and (batch, 77, 128) text embeddings."""

        def below(n: int) -> int:
            return int(torch.randint(n, (), generator=generator))

        latents, texts = [], []
        for _ in range(batch):
            index = below(len(self.latents))
            latent = self.latents[index]
            latents.append(latent.roll(below(latent.shape[-1]), dims=-1)[..., :width])
            prompts = self.text[self.labels[index]]
            empty = float(torch.rand((), generator=generator)) < null_share
            texts.append(self.null[0] if empty else prompts[below(len(prompts))].float())
        return torch.stack(latents), torch.stack(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=SOURCES, required=True)
    add_arguments(parser, minutes=80.0, full_share=0.15)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    windows = Windows(args.data, args.side)
    print(f"{len(windows.latents)} canvases")
    alphas = alphas_cumprod()
    snr = alphas / (1.0 - alphas)
    # Min-SNR weighting (Hang et al. 2023) by drawing low-noise steps seldom rather than by counting them little: no step is wasted.
    density = (SNR_GAMMA / snr).clamp(0.1, 1.0)
    # What a canvas shows, and so what the prompt has to say, is decided where the noise is strong and errors of the noise estimate are
    # small in number but large in the picture: half-way between a loss on the noise (1) and one on the picture (1 / snr).
    weight = snr.rsqrt()

    def batch_loss(predict: Callable, done: float, generator: torch.Generator) -> tuple[Tensor, int]:
        width = windows.latents.shape[-1] if done > 1.0 - args.full_share else args.window
        latent, text = windows.draw(max(2, args.batch * args.window // width), width, generator, args.null_share)
        timestep = draw_timesteps(len(latent), density, generator)
        noisy, noise = diffuse(latent, alphas, timestep, generator)
        squares = (predict(noisy, timestep, text).sample - noise).square().mean(dim=(1, 2, 3))
        return (weight[timestep] * squares).mean(), width

    train(build_unet(WIDTHS[args.side]), args.data / f"unet-{args.side}", batch_loss, args)


if __name__ == "__main__":
    main()
