"""A step of score distillation three ways, in turns: plainly as the paper describes it, as the node does it, and on latents.

    python -m lab.benchmarks.sds                                                        # the embedded models, a small canvas network
    python -m lab.benchmarks.sds --size full --dtype float16 --hidden 256 --rounds 20    # random models of SD 1.5's size, on a GPU
    python -m lab.benchmarks.sds --memory                                              # is memory flat, over 10 000 steps and 50 full ones?

plain: the eight crops one prediction after the other, the VAE's encoder in float32. ours: one prediction for all crops, and the encoder in
bfloat16 on a GPU (ComfyUI's choice there; in float32 on a CPU). latents: beyond the paper, the latents themselves are the canvas, and an
image model on latents takes the pixel model's place. It runs on the GPU if there is one; guidance on both sides, 10.24 s.

Ratios are those of one round each (the plain step's time over the other's), as median and range over the rounds. "apart" is the relative
difference of the canvas's first gradient from the plain step's.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from functools import partial
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

REPO = Path(__file__).resolve().parents[2]
from itsound_core.canvas import FourierCanvas, LatentParameters  # noqa: E402
from itsound_core.embedded import AUDIO_FOLDER, COLOR_FOLDER, IMAGE_FOLDER  # noqa: E402
from itsound_core.sampling import STABLE_DIFFUSION, guided  # noqa: E402
from itsound_core.sds import DiffusionPrior, Distillation, Renderer, full_canvas, latents_by, random_crops  # noqa: E402

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CROPS, CROP_SIZE = 8, 64
LAMBDA, IMAGE_GUIDANCE, AUDIO_GUIDANCE = 0.4, 80.0, 10.0
TOKENS, SCALE = 77, 0.18215
FULL_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}


class Models:
    """A pixel-space model, an image and an audio model on latents, and the VAE's encoder; random texts, for they cost the same."""

    def __init__(self, size: str, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        if size == "embedded":
            unets = [
                UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=dtype)
                for folder in (COLOR_FOLDER, IMAGE_FOLDER, AUDIO_FOLDER)
            ]
            vae = AutoencoderKL.from_pretrained(IMAGE_FOLDER, subfolder="vae")
        else:
            unets = [UNet2DConditionModel(in_channels=n, out_channels=n, attention_head_dim=8, cross_attention_dim=768) for n in (3, 4, 4)]
            vae = AutoencoderKL(**FULL_VAE)
        self.unets = [unet.to(DEVICE, dtype).eval().requires_grad_(False) for unet in unets]
        self.texts = torch.randn(2, 1, TOKENS, unets[0].config["cross_attention_dim"]).to(DEVICE, dtype)
        self.encoder = nn.Sequential(vae.encoder, vae.quant_conv).to(DEVICE, torch.float32).eval().requires_grad_(False)

    def predictor(self, unet: UNet2DConditionModel, guidance: float, noisy: Tensor, timestep: int) -> Tensor:
        prompt, null = self.texts
        return guided(unet, prompt, null, guidance)(noisy.to(unet.dtype), torch.tensor(timestep, device=DEVICE)).float()

    def priors(
        self, image: UNet2DConditionModel, image_renderer: Renderer, latents: Renderer, at_once: bool = True
    ) -> list[DiffusionPrior]:
        predict = partial(self.predictor, image, IMAGE_GUIDANCE)

        def one_by_one(noisy: Tensor, timestep: int) -> Tensor:
            return torch.cat([predict(crop, timestep) for crop in noisy.split(1)])

        alphas = STABLE_DIFFUSION.alphas_cumprod
        audio = partial(self.predictor, self.unets[2], AUDIO_GUIDANCE)
        return [DiffusionPrior(predict if at_once else one_by_one, alphas, image_renderer, LAMBDA), DiffusionPrior(audio, alphas, latents)]

    def plain(self, hidden: int) -> Distillation:
        priors = self.priors(self.unets[0], random_crops(CROPS, CROP_SIZE), latents_by(self.encoder, SCALE), at_once=False)
        return Distillation(FourierCanvas(frequencies=hidden // 2, hidden=hidden).to(DEVICE), priors)

    def ours(self, hidden: int) -> Distillation:
        dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
        encoder = copy.deepcopy(self.encoder).to(dtype)
        latents = latents_by(lambda pixels: encoder(pixels.to(dtype)).float(), SCALE)
        priors = self.priors(self.unets[0], random_crops(CROPS, CROP_SIZE), latents)
        return Distillation(FourierCanvas(frequencies=hidden // 2, hidden=hidden).to(DEVICE), priors)

    def latents(self) -> Distillation:
        return Distillation(LatentParameters().to(DEVICE), self.priors(self.unets[1], full_canvas, full_canvas))


def seconds_of(run: Distillation) -> float:
    began = time.perf_counter()
    run.step()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def gradient(run: Distillation) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in run.canvas.parameters() if parameter.grad is not None])


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def compare(models: Models, hidden: int, rounds: int) -> None:
    """Print one line a way; the first step of each is not timed: it compiles, allocates and loads."""
    runs = {"plain": models.plain(hidden), "ours": models.ours(hidden), "latents": models.latents()}
    for run in runs.values():
        run.step()
    first = gradient(runs["plain"])
    apart = float((gradient(runs["ours"]) - first).norm() / first.norm())
    taken = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            taken[name].append(seconds_of(run))
    print(f"{'':9}{'s/step':26}{'plain over it':26}apart")
    for name, times in taken.items():
        ratios = [plain / own for plain, own in zip(taken["plain"], times, strict=True)]
        print(f"{name:9}{spread(times):26}{spread(ratios):26}{f'{apart:.1e}' if name == 'ours' else ''}")


def small_run() -> Distillation:
    """A canvas of 32 x 128 under convolutions for models: what a run keeps does not depend on its models."""
    torch.manual_seed(0)
    image, audio = (nn.Conv2d(channels, channels, 3, padding=1).to(DEVICE).requires_grad_(False) for channels in (3, 4))
    encoder = nn.Conv2d(3, 8, 8, stride=8).to(DEVICE).requires_grad_(False)
    alphas = STABLE_DIFFUSION.alphas_cumprod
    priors = [
        DiffusionPrior(lambda noisy, _: image(noisy), alphas, random_crops(CROPS, 8), LAMBDA),
        DiffusionPrior(lambda noisy, _: audio(noisy), alphas, latents_by(encoder, SCALE)),
    ]
    return Distillation(FourierCanvas(32, 128, frequencies=32, hidden=64).to(DEVICE), priors)


def held() -> float:
    """MiB: what tensors hold on a GPU, the process's resident memory (Linux) without one."""
    if DEVICE.type == "cuda":
        return torch.cuda.memory_allocated() / 2**20
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 2**10


def watch_memory(name: str, run: Distillation, steps: int) -> None:
    """Print what is held after each tenth of the steps."""
    amounts = []
    for _ in range(10):
        for _ in range(steps // 10):
            run.step()
        amounts.append(held())
    print(f"{name}, {steps} steps, MiB after each tenth: {' '.join(f'{amount:.1f}' for amount in amounts)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("embedded", "full"), default="embedded")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32", help="of the UNets")
    parser.add_argument("--hidden", type=int, default=64, help="width of the canvas's network; 256 in the paper")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="watch the memory of long runs instead")
    args = parser.parse_args()

    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{args.size}, {args.dtype}, hidden {args.hidden}, {device}, torch {torch.__version__}", flush=True)
    if args.memory:
        watch_memory("32 x 128", small_run(), 10_000)
    models = Models(args.size, getattr(torch, args.dtype))
    if args.memory:
        watch_memory("256 x 1024", models.ours(args.hidden), 50)
    else:
        compare(models, args.hidden, args.rounds)


if __name__ == "__main__":
    main()
