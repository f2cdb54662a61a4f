"""Train one of the two embedded UNets on the linear latent code, within a budget of wall-clock minutes on one CPU core.

    python tools/embedded/train_unet.py --side image --data data --minutes 190
    python tools/embedded/train_unet.py --side audio --data data --minutes 150

Needs data/latent_code.npz, data/text-<side>/embeddings.pt, data/pictures/typical.npy or data/sounds/{train,pairs}.npy; writes
data/unet-<side>/checkpoint.pt every five minutes and data/unet-<side>/log.csv. With --resume and more --minutes it goes on from there, also
after the text encoder was trained anew: cross-attention learns the new embeddings within some hundred steps. Noise prediction on SD 1.5's
schedule, 10 % empty prompts.

The UNets are convolutional, so most of the training runs on windows of the canvas (as SD 1.5, trained at 512 x 512, is used at 256 x 1024);
the last share of the budget runs at full width.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from latent_code import LatentCode
from torch import Tensor

SOURCES = {"image": ("pictures/typical",), "audio": ("sounds/train", "sounds/pairs")}
WIDTHS = {"image": (32, 64, 128), "audio": (32, 64, 96)}
TRAINING_STEPS = 1000
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


class Windows:
    """Random windows of the training canvases as scaled latents, with the embedding of a random prompt of what they show.

    Any canvas may begin anywhere: a sound can, and a row of drawings closes on itself.
    """

    def __init__(self, data: Path, side: str):
        code = LatentCode.load(data / "latent_code.npz")
        latents, self.labels = [], []
        for source in SOURCES[side]:
            pictures = np.load(data / f"{source}.npy", mmap_mode="r")
            latents += [code.encode(pictures[i : i + 64]) for i in range(0, len(pictures), 64)]
            self.labels += [entry["class"] for entry in json.loads((data / f"{source}.json").read_text())]
        self.latents = torch.cat(latents)
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


def draw_timesteps(batch: int, density: Tensor, generator: torch.Generator) -> Tensor:
    """One timestep from each of `batch` equally likely strata of `density` (1000,), so that every batch spans the schedule."""
    quantile = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
    return torch.searchsorted(density.cumsum(0) / density.sum(), quantile).clamp(max=TRAINING_STEPS - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=SOURCES, required=True)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--minutes", type=float, default=80.0, help="wall-clock budget, earlier runs counted in")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint")
    parser.add_argument("--batch", type=int, default=8, help="windows a step; fewer as they get wider")
    parser.add_argument("--window", type=int, default=32, help="latent columns of a window")
    parser.add_argument("--full-share", type=float, default=0.15, help="last share of the budget, trained at full width")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--null-share", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="torch.compile: steps take some 0.7 of the time; needs a C++ compiler")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    folder = args.data / f"unet-{args.side}"
    folder.mkdir(parents=True, exist_ok=True)
    windows = Windows(args.data, args.side)
    unet = build_unet(WIDTHS[args.side])
    average = build_unet(WIDTHS[args.side]).requires_grad_(False)
    average.load_state_dict(unet.state_dict())
    optimizer = torch.optim.AdamW(unet.parameters(), args.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    predict = torch.compile(unet, dynamic=False) if args.compile else unet
    step, spent = 0, 0.0

    if args.resume:
        checkpoint = torch.load(folder / "checkpoint.pt", weights_only=True)
        unet.load_state_dict(checkpoint["unet"])
        average.load_state_dict(checkpoint["average"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        generator.set_state(checkpoint["generator"])
        step, spent = checkpoint["step"], checkpoint["seconds"]

    def save(seconds: float) -> None:
        torch.save(
            {
                "unet": unet.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "generator": generator.get_state(),
                "step": step,
                "seconds": seconds,
                "widths": WIDTHS[args.side],
            },
            folder / "checkpoint.part",
        )
        (folder / "checkpoint.part").replace(folder / "checkpoint.pt")

    alphas = alphas_cumprod()
    snr = alphas / (1.0 - alphas)
    # Min-SNR weighting (Hang et al. 2023) by drawing low-noise steps seldom rather than by counting them little: no step is wasted.
    density = (SNR_GAMMA / snr).clamp(0.1, 1.0)
    # What a canvas shows, and so what the prompt has to say, is decided where the noise is strong and errors of the noise estimate are
    # small in number but large in the picture: half-way between a loss on the noise (1) and one on the picture (1 / snr).
    weight = snr.rsqrt()
    full = windows.latents.shape[-1]
    print(f"{sum(p.numel() for p in unet.parameters()) / 1e6:.2f} M parameters, {len(windows.latents)} canvases", flush=True)

    began = time.monotonic() - spent
    saved = logged = spent
    losses: list[float] = []
    with (folder / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        while (seconds := time.monotonic() - began) < 60.0 * args.minutes:
            done = seconds / (60.0 * args.minutes)
            width = full if done > 1.0 - args.full_share else args.window
            batch = max(2, args.batch * args.window // width)
            lr = args.lr * min(1.0, (step + 1) / 50) * min(1.0, 0.02 + 1.25 * (1.0 - done))
            for group in optimizer.param_groups:
                group["lr"] = lr

            latent, text = windows.draw(batch, width, generator, args.null_share)
            timestep = draw_timesteps(batch, density, generator)
            noise = torch.randn(latent.shape, generator=generator)
            alpha = alphas[timestep].view(-1, 1, 1, 1)
            noisy = alpha.sqrt() * latent + (1.0 - alpha).sqrt() * noise
            squares = (predict(noisy, timestep, text).sample - noise).square().mean(dim=(1, 2, 3))
            loss = (weight[timestep] * squares).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
            optimizer.step()
            step += 1
            decay = min(0.999, (1.0 + step) / (20.0 + step))
            with torch.no_grad():
                torch._foreach_lerp_(list(average.parameters()), list(unet.parameters()), 1.0 - decay)

            losses.append(loss.item())
            if seconds - logged > 30.0:
                row = [step, round(seconds), width, round(sum(losses) / len(losses), 4), f"{lr:.1e}"]
                log.writerow(row)
                file.flush()
                print(*row, flush=True)
                logged, losses = seconds, []
                if not math.isfinite(row[3]):
                    raise RuntimeError(f"training diverged at step {step}: resume with a smaller --lr than {args.lr}")
            if seconds - saved > 300.0:
                save(seconds)
                saved = seconds
    save(60.0 * args.minutes)


if __name__ == "__main__":
    main()
