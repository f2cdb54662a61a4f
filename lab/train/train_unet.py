"""Train one of the two embedded UNets on the linear latent code, beside other work on one CPU core, for as long as there is time.

    python -m lab.train.train_unet --side image --data data --minutes 600 --bfloat16 --compile
    python -m lab.train.train_unet --side image --data data --minutes 600 --bfloat16 --compile --resume
    python -m lab.train.train_unet --side image --data data --minutes 800 --bfloat16 --compile --resume --decay-steps 15000
    python -m lab.train.train_unet --side image --data data --minutes 600 --bfloat16 --compile --init models/embedded-image/unet

Needs data/latent_code.npz; data/text-image/drawn.pt and data/pictures/{drawn,apart}.npy, or data/text-audio/embeddings.pt and
data/sounds/{train,pairs,dev}.npy. Writes data/unet-<side>/checkpoint.pt every five minutes, log.csv, and the averaged model's loss by noise
level: levels.csv on canvases of drawings that are not learnt, levels-learnt.csv on such as are. Noise prediction on SD 1.5's schedule, 10 %
empty prompts.

The learning rate is constant, so a run can be stopped and resumed at any time; a last one with --decay-steps, of about 15 % of the steps,
lets it fall to nothing. --init begins with the weights of an exported UNet, where a checkpoint is lost.

The UNets are convolutional, so they are trained on windows of the canvas (as SD 1.5, trained at 512 x 512, is used at 256 x 1024) and on
whole canvases in turn. Windows narrower than a drawing, 25 to 43 columns, teach cut ones.
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

from .denoiser_training import TRAINING_STEPS, add_arguments, constant_then_falling, diffuse, draw_timesteps, train
from .latent_code import LatentCode
from .noise_levels import NoiseLevels
from .prompts import PLUS

SOURCES = {"image": ("pictures/drawn",), "audio": ("sounds/train", "sounds/pairs")}
UNLEARNT = {"image": "pictures/apart", "audio": "sounds/dev"}
PROMPTS = {"image": "drawn", "audio": "embeddings"}
WIDTHS = {"image": (64, 64, 96, 96), "audio": (32, 64, 96)}
ATTENDING = {"image": 2, "audio": 1}  # lowest levels that see the prompt
SNR_GAMMA = 1.0
STRONG = 700  # half of the timesteps are from here on: there it is decided what stands where


def build_unet(widths: tuple[int, ...], attending: int = 1, text_width: int = 128) -> UNet2DConditionModel:
    """A small relative of SD 1.5's UNet; attention only at the `attending` lowest levels. Each level halves 32 x 128 positions."""
    plain = len(widths) - attending
    return UNet2DConditionModel(
        sample_size=32,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * plain + ("CrossAttnDownBlock2D",) * attending,
        up_block_types=("CrossAttnUpBlock2D",) * attending + ("UpBlock2D",) * plain,
        cross_attention_dim=text_width,
        attention_head_dim=4,  # diffusers' name for the number of heads
    )


def unet_of(side: str) -> UNet2DConditionModel:
    """The untrained UNet of a side, of the shipped one's shape."""
    return build_unet(WIDTHS[side], ATTENDING[side])


def alphas_cumprod() -> Tensor:
    """SD 1.5's schedule, (1000,)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TRAINING_STEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1.0 - betas, dim=0).float()


def training_canvases(data: Path, side: str) -> tuple[list[np.ndarray], list[str]]:
    """Memory-mapped canvases (N, 256, 1024) uint8 of each source of a side, and what every one of them is called, in that order."""
    canvases, names = zip(*(canvases_of(data / source) for source in SOURCES[side]), strict=True)
    return list(canvases), [name for part in names for name in part]


def canvases_of(path: Path) -> tuple[np.ndarray, list[str]]:
    """Memory-mapped canvases of one source, and for each the key of its prompts' embeddings: its class, where it has no other."""
    entries = json.loads(path.with_suffix(".json").read_text())
    return np.load(path.with_suffix(".npy"), mmap_mode="r"), [entry.get("prompts", entry["class"]) for entry in entries]


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
        text = torch.load(data / f"text-{side}" / f"{PROMPTS[side]}.pt", weights_only=True)
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


def one_of_each_class(data: Path, source: str, text: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Scaled latents (N, 4, 32, 128) of the first canvas of every class of a source, and the plainest prompt of each."""
    canvases, names = canvases_of(data / source)
    first = {name.split(",")[0]: index for index, name in reversed(list(enumerate(names))) if PLUS not in name}
    chosen = sorted(first.values())
    latents = LatentCode.load(data / "latent_code.npz").encode(np.array(canvases[chosen]))
    return latents, torch.stack([text[names[index]][0].float() for index in chosen])


def timestep_density(snr: Tensor) -> Tensor:
    """(1000,), how often each timestep is drawn.

    Min-SNR weighting (Hang et al. 2023) by drawing low-noise steps seldom rather than by counting them little, so that no step is wasted;
    of what that gives, half goes to strong noise.
    """
    density = (SNR_GAMMA / snr).clamp(0.1, 1.0)
    density[STRONG:] *= density[:STRONG].sum() / density[STRONG:].sum()
    return density


def window_sizes(text: str) -> tuple[int, int]:
    """Columns and count of "64x4"."""
    columns, _, count = text.partition("x")
    return int(columns), int(count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=SOURCES, required=True)
    add_arguments(parser, minutes=600.0)
    parser.set_defaults(lr=1e-3)
    parser.add_argument(
        "--windows",
        type=window_sizes,
        nargs="+",
        default=[(64, 4), (128, 2)],
        help="columns x windows of a step, such as 64x4; taken at random",
    )
    parser.add_argument("--init", type=Path, help="folder of an exported UNet to begin with")
    parser.add_argument("--bfloat16", action="store_true", help="autocast: faster where the CPU has instructions for it")
    parser.add_argument("--decay-steps", type=int, help="last phase: the learning rate falls to 0 over so many steps, then it ends")
    parser.add_argument("--watch-every", type=int, default=500, help="steps between losses by noise level")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    windows = Windows(args.data, args.side)
    print(f"{len(windows.latents)} canvases")
    alphas = alphas_cumprod()
    snr = alphas / (1.0 - alphas)
    density = timestep_density(snr)
    # What a canvas shows, and so what the prompt has to say, is decided where the noise is strong and errors of the noise estimate are
    # small in number but large in the picture: half-way between a loss on the noise (1) and one on the picture (1 / snr).
    weight = snr.rsqrt()

    def batch_loss(predict: Callable, done: float, generator: torch.Generator) -> tuple[Tensor, int]:
        width, batch = args.windows[int(torch.randint(len(args.windows), (), generator=generator))]
        latent, text = windows.draw(batch, width, generator, args.null_share)
        timestep = draw_timesteps(batch, density, generator)
        noisy, noise = diffuse(latent, alphas, timestep, generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
            predicted = predict(noisy, timestep, text).sample
        squares = (predicted.float() - noise).square().mean(dim=(1, 2, 3))
        return (weight[timestep] * squares).mean(), width

    folder = args.data / f"unet-{args.side}"
    levels = {"": UNLEARNT[args.side], "-learnt": SOURCES[args.side][0]}
    watches = [
        NoiseLevels(*one_of_each_class(args.data, source, windows.text), alphas, folder / f"levels{name}.csv")
        for name, source in levels.items()
    ]

    def watch(average: UNet2DConditionModel, step: int) -> None:
        for noise_levels in watches:
            noise_levels(average, step)

    unet = UNet2DConditionModel.from_pretrained(args.init, torch_dtype=torch.float32) if args.init else unet_of(args.side)
    train(
        unet,
        folder,
        batch_loss,
        args,
        rate=constant_then_falling(args.decay_steps or 1),
        last_phase=args.decay_steps is not None,
        longest_average=0.9995,
        watch=watch,
        watch_every=args.watch_every,
    )


if __name__ == "__main__":
    main()
