"""Train, measure and export the embedded colour model: a pixel-space UNet of 64 x 256 that gives a gray picture the colours of its prompt.

    python -m lab.train.train_color --data data --minutes 50          # data/color/checkpoint.pt every five minutes, and log.csv
    python -m lab.train.train_color --data data --evaluate dev        # figures, and data/color/dev.png: gray, coloured, truth
    python -m lab.train.train_color --data data --export              # -> models/embedded-color

Needs data/color (`colors.py`) and data/text-image/embeddings.pt (`train_text.py`): the prompts are read by the image model's encoder.

The model is sampled with the gray part of every noisy picture given (Factorized Diffusion, arXiv 2404.11615): gray is the mean of the three
channels, colour is the rest. So it learns colours on spectrograms: over every drawing lies a sound of the training split, in brightness
only. DDPM's linear schedule, because a sample starts at step 7 of 30 with no colour at all: there, at sigma 14, the mean colour of a
drawing of 40 x 40 pixels is still open; at SD's sigma of 4 it is not, and the absence of colour would be taken for gray. The first steps
see the pictures at half the resolution, where a window holds a whole drawing at a quarter of the time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from PIL import Image
from torch import Tensor

from .denoiser_training import TRAINING_STEPS, add_arguments, add_window_arguments, diffuse, draw_timesteps, train, trained
from .prompts import SUBJECTS

ROOT = Path(__file__).resolve().parents[2]
from itsound_core.colorize import split_gray, within_gamut  # noqa: E402
from itsound_core.sampling import ddim_step, guided  # noqa: E402

FOLDER = ROOT / "models" / "embedded-color"
WIDTHS = (32, 32, 64, 96)
INK = 0.15  # the darkest ink of a drawing; below it, colour fades out with the level
GRAY_SHARE = 0.25  # of the gray part in the loss: a sampler replaces it, but to find the drawing the model has to see it
LARGEST_SIGMA = 15.0  # a sample's at step 7 of 30 is 14


def build_unet() -> UNet2DConditionModel:
    """Pixels in, noise out; attention at the two lowest levels, where a full canvas is 16 x 64 and 8 x 32 positions."""
    return UNet2DConditionModel(
        sample_size=64,
        in_channels=3,
        out_channels=3,
        block_out_channels=WIDTHS,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=4,  # diffusers' name for the number of heads
    )


def build_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        num_train_timesteps=TRAINING_STEPS,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )


# Pictures ----------------------------------------------------------------------------------------------------------------------------


def paint(layers: Tensor, sound: Tensor, weights: Tensor) -> Tensor:
    """A coloured drawing under a spectrogram, RGB (B, 3, H, W) in 0..1.

    layers (B, 3, H, W): gray level times chromaticity. sound (B, 1, H, W). weights (B, 3): of the drawing, of the sound, and of their
    product in the brightness. The sound changes brightness only: hue and saturation are the drawing's, and beside it there is no colour.
    """
    drawing, color = 3 * layers.mean(dim=1, keepdim=True), 3 * split_gray(layers)[1]
    bare, around, within = weights[:, :, None, None, None].unbind(dim=1)
    gray = (bare * drawing + around * sound + within * drawing * sound).clamp(0, 1)
    return within_gamut(gray, gray * color / drawing.clamp(min=INK))


def draw_weights(batch: int, generator: torch.Generator) -> Tensor:
    """Weights of `paint`, (batch, 3): a drawing of any brightness, one in ten without a sound."""
    low, high = torch.tensor([0.2, 0.0, 0.0]), torch.tensor([0.7, 0.4, 0.4])
    weights = low + (high - low) * torch.rand(batch, 3, generator=generator)
    weights[torch.rand(batch, generator=generator) < 0.1, 1:] = 0.0
    return weights


def layers_of(folder: Path, split: str) -> tuple[Tensor, list[str]]:
    """Coloured drawings of one split, uint8 (N, 3, 64, 256) whose sum is the gray level, and what each shows."""
    labels = [entry["class"] for entry in json.loads((folder / f"{split}.json").read_text())]
    return torch.from_numpy(np.load(folder / f"{split}.npy")), labels


class Canvases:
    """Coloured drawings of one split, the spectrograms that may lie over them, and the embeddings of their prompts."""

    def __init__(self, data: Path, split: str):
        folder = data / "color"
        self.layers, self.labels = layers_of(folder, split)
        self.sounds = torch.from_numpy(np.load(folder / f"sounds-{split}.npy"))
        self.text = torch.load(data / "text-image" / "embeddings.pt", weights_only=True)

    def draw(self, batch: int, width: int, generator: torch.Generator, null_share: float) -> tuple[Tensor, Tensor]:
        """(batch, 3, 64, width) pictures in -1..1 and (batch, 77, 128) text embeddings."""

        def below(n: int) -> int:
            return int(torch.randint(n, (), generator=generator))

        def window(canvas: Tensor) -> Tensor:
            return canvas.roll(below(canvas.shape[-1]), dims=-1)[..., :width]

        layers, sounds, texts = [], [], []
        for _ in range(batch):
            index = below(len(self.layers))
            layers.append(window(self.layers[index]))
            sounds.append(window(self.sounds[below(len(self.sounds))]))
            empty = float(torch.rand((), generator=generator)) < null_share
            prompts = self.text["" if empty else self.labels[index]]
            texts.append(prompts[below(len(prompts))].float())
        pictures = paint(torch.stack(layers) / 255, torch.stack(sounds)[:, None] / 255, draw_weights(batch, generator))
        return 2 * pictures - 1, torch.stack(texts)


# Training ----------------------------------------------------------------------------------------------------------------------------


def fit(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    canvases = Canvases(args.data, "train")
    print(f"{len(canvases.layers)} canvases")
    alphas = build_scheduler().alphas_cumprod
    sigmas = ((1 - alphas) / alphas).sqrt()
    # Strong noise weighs more than in a loss on the noise (1), less than in one on the picture (sigma squared): that is where the prompt
    # decides the hue. Low noise is drawn seldom, and so is more noise than a sample has at step 7.
    density, weight = sigmas.square().clamp(0.2, 1.0), sigmas.clamp(max=LARGEST_SIGMA) ** 1.5
    density[sigmas > LARGEST_SIGMA] = 0.2

    def batch_loss(predict: Callable, done: float, generator: torch.Generator) -> tuple[Tensor, int]:
        width = canvases.layers.shape[-1] if done > 1.0 - args.full_share else args.window
        if done < args.coarse_share:
            pictures, text = canvases.draw(args.batch, 2 * width, generator, args.null_share)
            pictures = F.avg_pool2d(pictures, 2)
        else:
            pictures, text = canvases.draw(max(1, args.batch // 2 * args.window // width), width, generator, args.null_share)
        timestep = draw_timesteps(len(pictures), density, generator)
        noisy, noise = diffuse(pictures, alphas, timestep, generator)
        gray, color = split_gray(predict(noisy, timestep, text).sample - noise)
        squares = color.square().mean(dim=(1, 2, 3)) + GRAY_SHARE * gray.square().mean(dim=(1, 2, 3))
        return (weight[timestep] * squares).mean(), pictures.shape[-1]

    train(build_unet(), args.data / "color", batch_loss, args)


# Measuring ---------------------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def colorize(
    unet: UNet2DConditionModel, gray: Tensor, text: Tensor, null: Tensor, guidance: float, seed: int, steps: int = 30, start: int = 7
) -> Tensor:
    """RGB (B, 3, H, W) in 0..1 whose gray part is `gray` (B, 1, H, W), by DDIM from step `start`.

    Noise is drawn once, on three channels: its gray part goes with the given gray at every step, its colour part starts the colour.
    """
    scheduler = build_scheduler()
    scheduler.set_timesteps(steps)
    predict = guided(unet, text, null, guidance)
    noise = torch.randn(len(gray), 3, *gray.shape[2:], generator=torch.Generator().manual_seed(seed))
    given, color = 2 * gray - 1, torch.zeros(())
    alphas = [float(scheduler.alphas_cumprod[timestep]) for timestep in scheduler.timesteps[start:]]
    pixels = alphas[0] ** 0.5 * given + (1 - alphas[0]) ** 0.5 * noise
    for timestep, alpha, following in zip(scheduler.timesteps[start:], alphas, [*alphas[1:], 1.0], strict=True):
        pixels, _ = ddim_step(pixels, predict(pixels, timestep), alpha, following)
        color = split_gray(pixels)[1]
        pixels = color + following**0.5 * given + (1 - following) ** 0.5 * split_gray(noise)[0]
    return within_gamut(gray, color / 2)


def mean_color(pictures: Tensor, ink: Tensor) -> Tensor:
    """Mean colour part over the ink (B, 1, H, W), (B, 3)."""
    return (split_gray(pictures)[1] * ink).sum(dim=(2, 3)) / ink.sum(dim=(2, 3))


def class_colors(data: Path) -> dict[str, Tensor]:
    """Mean colour part of each class at gray level 1, (3,), over the ink of the training canvases of one thing."""
    canvases, labels = layers_of(data / "color", "train")
    colors = {}
    for label in SUBJECTS["image"]:
        layers = canvases[[i for i, name in enumerate(labels) if name == label]] / 255
        drawing, color = layers.sum(dim=1, keepdim=True), 3 * split_gray(layers)[1]
        colors[label] = mean_color(color / drawing.clamp(min=INK), drawing > INK).mean(dim=0)
    return colors


def evaluate(args: argparse.Namespace) -> None:
    canvases, colors = Canvases(args.data, args.evaluate), class_colors(args.data)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.arange(len(canvases.layers))[:: args.every]
    layers = canvases.layers[chosen, :, :, : args.columns] / 255
    sounds = canvases.sounds[torch.randint(len(canvases.sounds), (len(chosen),), generator=generator), None, :, : args.columns] / 255
    truth = paint(layers, sounds, draw_weights(len(chosen), generator))
    gray, ink = split_gray(truth)[0], layers.sum(dim=1, keepdim=True) > INK

    labels = [canvases.labels[i] for i in chosen]
    names = list(SUBJECTS["image"])
    wrong = [names[(names.index(label) + len(names) // 2) % len(names)] for label in labels]
    unet = trained(build_unet(), args.data / "color")
    print(f"{args.evaluate}: ink of {len(chosen)} canvases, {args.columns} columns, guidance {args.guidance}")

    def error(pictures: Tensor) -> float:
        return float(((pictures - truth).abs() * ink).sum() / (3 * ink.sum()))

    def likeness(pictures: Tensor, wanted: Tensor) -> float:
        """Mean cosine of mean colours, over the canvases where both have a colour to speak of by the truth."""
        colored = mean_color(truth, ink).norm(dim=1) > 0.05
        return float(torch.cosine_similarity(mean_color(pictures, ink), wanted, dim=1)[colored].mean())

    def report(name: str, pictures: Tensor, prompted: list[str]) -> None:
        chroma, black = split_gray(pictures)[1].norm(dim=1, keepdim=True), gray < 0.05
        print(
            f"{name:22s} chroma {float(chroma[ink].mean()):.3f}  on black {float(chroma[black].mean()):.4f}  error {error(pictures):.4f}  "
            f"cosine with the truth {likeness(pictures, mean_color(truth, ink)):.3f}, "
            f"with the class of the prompt {likeness(pictures, torch.stack([colors[name] for name in prompted])):.3f}",
            flush=True,
        )

    report("truth", truth, labels)
    report("gray", gray.expand(-1, 3, -1, -1), labels)
    report("mean colour of class", within_gamut(gray, gray * ink * torch.stack([colors[name] for name in labels])[..., None, None]), labels)
    shown = [gray.expand(-1, 3, -1, -1)]
    null = canvases.text[""].float()
    began = time.process_time()
    runs = [(f"seed {seed}", labels, seed) for seed in range(args.seeds)] + [("wrong prompt", wrong, 0)]
    for name, prompted, seed in runs:
        prompts = [canvases.text[label][:1].float() for label in prompted]
        pictures = torch.cat(
            [colorize(unet, gray[i : i + 1], prompts[i], null, args.guidance, seed=1000 * seed + i) for i in range(len(gray))]
        )
        report(name, pictures, prompted)
        shown.append(pictures)
    print(f"{(time.process_time() - began) / len(runs) / len(gray):.1f} s of one core a sample")
    columns = torch.stack([*shown, truth]).mul(255).round().byte()  # (columns, canvases, 3, 64, 256)
    sheet = columns.permute(1, 3, 0, 4, 2).reshape(-1, len(columns) * gray.shape[-1], 3)
    Image.fromarray(sheet.numpy()).save(args.data / "color" / f"{args.evaluate}.png")


def export(data: Path, folder: Path = FOLDER) -> None:
    """Write unet/, scheduler/ and model_index.json. There is no text encoder: the image model's reads the prompts."""
    trained(build_unet(), data / "color").half().save_pretrained(folder / "unet")
    build_scheduler().save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "DiffusionPipeline",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, minutes=50.0)
    add_window_arguments(parser, full_share=0.1)
    parser.add_argument("--coarse-share", type=float, default=0.5, help="first share of the budget, trained at half the resolution")
    parser.add_argument("--evaluate", choices=("dev", "heldout"), help="measure the checkpoint instead of training")
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, default=1, help="of the right prompt, to evaluate")
    parser.add_argument("--every", type=int, default=1, help="evaluate one canvas of so many")
    parser.add_argument("--columns", type=int, default=256, help="evaluate the left of each canvas")
    parser.add_argument("--export", action="store_true", help="write models/embedded-color instead of training")
    args = parser.parse_args()

    torch.set_num_threads(1)
    if args.export:
        export(args.data)
    elif args.evaluate:
        evaluate(args)
    else:
        fit(args)


if __name__ == "__main__":
    main()
