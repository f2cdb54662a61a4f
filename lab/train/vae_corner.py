"""Train the embedded VAE's decoder further until nothing stands in its lower left corner.

    python -m lab.train.vae_corner --data data --steps 600     # data/vae-corner, a diffusers folder; resumes none, takes an hour
    python -m lab.train.vae_corner --data data --evaluate models/embedded-image/vae data/vae-corner

The decoder had learnt to steer its group norms by a spike of activation where zero padding marks a corner; it showed as a speckle. Crops
are as tall as a canvas, so each has that corner; the difference there counts by itself, and activations far above all others are penalised.
They are of several widths, whole canvases among them: a group norm averages over the width, and 700 steps of squares alone lost the spike
but left whole pictures 9 levels too bright, where squares were right to 1. What is shipped was trained by these 700, then by 450 steps
of all widths at half the rate.

Needs data/latent_code.npz, data/pictures/{drawn,apart}.npy and data/sounds/{train,dev}.npy.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from itsound_core.embedded import VAE_FOLDER

from .latent_code import LatentCode
from .train_vae import LATENT_NOISE, SOUND_SHARE, decode, loss_of

CORNER = 16  # pixels
CORNER_WEIGHT, SPIKE_WEIGHT = 0.5, 0.02
FLOORS = {"mid": 8.0, "last": 40.0}  # activations below are no spikes
RATE, EMA_DECAY = 2e-4, 0.98
WIDTHS = (256, 256, 512, 1024)  # pixels, drawn with equal chances


def watched(vae: AutoencoderKL) -> dict[str, nn.Module]:
    """Where the spike begins, and where it is largest."""
    return {"mid": vae.decoder.mid_block.resnets[-1], "last": vae.decoder.up_blocks[-1].resnets[-1]}


def spike(features: Tensor, floor: float) -> Tensor:
    """How far the largest activation of each item (B, C, H, W) stands above the floor, and above what one in a thousand exceeds."""
    size = features.abs().flatten(1)
    limit = size.detach().quantile(0.999, dim=1).clamp(min=floor)
    return F.relu(size.amax(dim=1) / limit - 1).mean()


class Crops:
    """Random parts as tall as a canvas, of drawings and spectrograms."""

    def __init__(self, data: Path, rng: np.random.Generator):
        self.sources = [np.load(data / name, mmap_mode="r") for name in ("pictures/drawn.npy", "sounds/train.npy")]
        self.rng = rng

    def draw(self) -> Tensor:
        """(1, 256, one of `WIDTHS`), 0..1."""
        source = self.sources[int(self.rng.random() < SOUND_SHARE)]
        canvas = source[self.rng.integers(len(source))]
        width = min(int(self.rng.choice(WIDTHS)), canvas.shape[1])
        start = 0 if width == canvas.shape[1] else self.rng.integers(canvas.shape[1])
        columns = (start + np.arange(width)) % canvas.shape[1]
        return torch.from_numpy(canvas[:, columns])[None].float() / 255


def train(data: Path, start: Path, output: Path, steps: int, rate: float, seed: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    code, crops = LatentCode.load(data / "latent_code.npz"), Crops(data, np.random.default_rng(seed))
    vae = AutoencoderKL.from_pretrained(start, torch_dtype=torch.float32)
    vae.encoder.requires_grad_(False)
    trained = [*vae.post_quant_conv.parameters(), *vae.decoder.parameters()]
    average = [parameter.detach().clone() for parameter in trained]
    features: dict[str, Tensor] = {}
    for name, module in watched(vae).items():
        module.register_forward_hook(lambda _module, _args, value, name=name: features.update({name: value}))
    optimizer = torch.optim.AdamW(trained, rate, betas=(0.9, 0.99), weight_decay=0)
    recent: list[list[float]] = []
    for step in range(steps):
        wanted = crops.draw()
        latent = code.encode(wanted)
        latent += torch.randn_like(latent) * LATENT_NOISE * float(torch.rand(()))
        shown = decode(vae, latent)
        corner = F.l1_loss(shown[..., -CORNER:, :CORNER], wanted[:, None, -CORNER:, :CORNER])
        spikes = spike(features["mid"], FLOORS["mid"]) + spike(features["last"], FLOORS["last"])
        loss = loss_of(shown, wanted[:, None]) + CORNER_WEIGHT * corner + SPIKE_WEIGHT * spikes
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 20, 3 * (1 - step / steps))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        with torch.no_grad():
            for kept, parameter in zip(average, trained, strict=True):
                kept.lerp_(parameter, 1 - min(EMA_DECAY, (1 + step) / (10 + step)))
        recent.append([loss.item(), corner.item(), spikes.item()])
        if step % 20 == 19:
            print(step + 1, *(f"{value:.4f}" for value in np.mean(recent, axis=0)), flush=True)
            recent.clear()
    with torch.no_grad():
        for kept, parameter in zip(average, trained, strict=True):
            parameter.copy_(kept)
        for parameter in vae.decoder.conv_out.parameters():
            parameter[1:] = parameter[:1]  # gray
    vae.half().save_pretrained(output)


@torch.inference_mode()
def evaluate(data: Path, folder: Path, count: int) -> dict[str, list[float]]:
    """Mean absolute difference in levels of 255 on canvases that were not trained on: in the corner, and elsewhere."""
    code = LatentCode.load(data / "latent_code.npz")
    vae = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32).eval()
    report = {}
    for name in ("pictures/apart", "sounds/dev"):
        canvases = np.load(data / f"{name}.npy", mmap_mode="r")
        corners, others = [], []
        for index in np.linspace(0, len(canvases) - 1, min(count, len(canvases))).astype(int):
            wanted = torch.from_numpy(canvases[index])[None].float() / 255
            difference = 255 * (decode(vae, code.encode(wanted))[:, 0].clamp(0, 1) - wanted).abs()[0]
            corners.append(difference[-CORNER:, :CORNER].mean().item())
            inside = torch.ones_like(difference, dtype=torch.bool)
            inside[-CORNER:, :CORNER] = False
            others.append(difference[inside].mean().item())
        report[name] = [float(np.mean(corners)), float(np.mean(others))]
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--start", type=Path, default=VAE_FOLDER / "vae", help="folder of the VAE to begin with")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluate", type=Path, nargs="+", help="folders to compare, instead of training")
    args = parser.parse_args()

    if args.evaluate:
        for folder in args.evaluate:
            for name, (corner, elsewhere) in evaluate(args.data, folder, 28).items():
                print(f"{folder}: {name}: {corner:.2f} levels in the corner, {elsewhere:.2f} elsewhere")
        return
    train(args.data, args.start, args.data / "vae-corner", args.steps, args.rate, args.seed)


if __name__ == "__main__":
    main()
