"""Build the embedded VAE's encoder, train its decoder within a budget of wall-clock minutes on one CPU core, and export both.

    python -m lab.train.train_vae --data data --minutes 50 [--resume]
    python -m lab.train.train_vae --data data --export      # the averaged weights, fp16, to models/embedded-image/vae
    python -m lab.train.train_vae --data data --evaluate    # reconstruction of the development set

Needs data/latent_code.npz and data/{pictures,sounds}/{train,dev}.npy; writes data/vae/checkpoint.pt every five minutes, and log.csv.

The latent space is the fixed linear code of `latent_code.py`, so the encoder needs no training: the code is written into its weights. The
decoder learns pictures from noisy codes, on crops that grow with the budget.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from itsound_core.embedded import VAE_FOLDER

from .latent_code import CHANNELS, LatentCode
from .muon import Muon

SCALING = 0.18215  # SD 1.5's: scaled latent = SCALING x the VAE's own
GROUPS = 32

# (until this share of the budget, side of the crop, crops a step, decoder levels run). Pixels are first read off the features at a quarter
# and at half of the resolution, where a step is cheap; wide crops come last: group norms then see statistics as of whole canvases.
STAGES = [(0.10, 64, 8, 1), (0.30, 64, 8, 2), (0.52, 64, 4, 4), (0.72, 128, 1, 4), (1.00, 256, 1, 4)]
SOUND_SHARE = 0.4
LATENT_NOISE = 0.1  # largest deviation of the noise on a scaled latent; diffusion's samples are not exact codes either
LEARNING_RATE = 3e-3
EMA_DECAY = 0.99


def build_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 32, 64, 96),
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=GROUPS,
        sample_size=256,
        scaling_factor=SCALING,
    )


@torch.no_grad()
def write_code(vae: AutoencoderKL, code: LatentCode, energy: Tensor, pedestal: float = 20.0, logvar: float = -20.0) -> None:
    """Write the linear code into the encoder: the mean becomes `code.encode(picture) / SCALING`, to about 1 %.

    Residual branches and attention are zero, and the strided convolutions move 8 x 8 pixels into channels. What is left in the way is the
    last group norm with its SiLU. Each group holds (x, -x, pedestal): its mean is known and its variance nearly so, hence the difference
    of its first two channels is linear in x. Groups come in pairs of opposite sign, since silu(x) - silu(-x) = x.

    Args:
        energy: (4,), mean square of each latent channel, which the norm's variance contains.
    """
    encoder = vae.encoder
    for parameter in [*encoder.parameters(), *vae.quant_conv.parameters()]:
        parameter.zero_()
    encoder.conv_in.weight[0, :, 1, 1] = 1 / 3  # gray

    # Channel k of a level is pixel k of a patch, numbered as two nested 2 x 2 blocks; the third level is left to the code itself.
    first, second, third = (block.downsamplers[0].conv for block in encoder.down_blocks[:3])
    for dy in range(2):
        for dx in range(2):
            first.weight[2 * dy + dx, 0, dy, dx] = 1
            for inner in range(4):
                second.weight[4 * inner + 2 * dy + dx, inner, dy, dx] = 1
                for outer in range(4):
                    row = 4 * dy + 2 * (outer // 2) + inner // 2
                    column = 4 * dx + 2 * (outer % 2) + inner % 2
                    third.weight[:CHANNELS, 4 * inner + outer, dy, dx] = code.analysis[:, 0, row, column] / 2
    third.bias[:CHANNELS] = code.analysis.sum(dim=(1, 2, 3)) * (0.5 - code.center)  # pixels come in -1..1
    encoder.down_blocks[2].resnets[0].conv_shortcut.weight[:16, :16, 0, 0] = torch.eye(16)

    spread = encoder.down_blocks[3].resnets[0].conv_shortcut
    width = spread.out_channels // GROUPS
    for group in range(GROUPS):
        channel, sign = group % CHANNELS, 1 if group < GROUPS // 2 else -1
        x, minus_x, constant = range(group * width, (group + 1) * width)
        spread.weight[x, channel], spread.weight[minus_x, channel], spread.bias[constant] = 1, -1, pedestal
        encoder.conv_norm_out.weight[x], encoder.conv_norm_out.weight[minus_x] = sign, sign
        deviation = math.sqrt(2 * pedestal**2 / 9 + 2 * energy[channel] / 3)
        gain = sign * deviation / 2 / (GROUPS // 2 // CHANNELS) / SCALING
        encoder.conv_out.weight[channel, x, 1, 1], encoder.conv_out.weight[channel, minus_x, 1, 1] = gain, -gain
    encoder.conv_out.bias[CHANNELS:] = logvar
    vae.quant_conv.weight[:, :, 0, 0] = torch.eye(2 * CHANNELS)


@torch.no_grad()
def initialise_decoder(vae: AutoencoderKL) -> None:
    """Residual branches start at zero, and the input at unit deviation."""
    vae.post_quant_conv.weight[:, :, 0, 0] = torch.eye(CHANNELS) * SCALING
    vae.post_quant_conv.bias.zero_()
    for module in vae.decoder.modules():
        if hasattr(module, "conv2"):
            nn.init.zeros_(module.conv2.weight)
    nn.init.zeros_(vae.decoder.conv_out.bias)


def build_heads(vae: AutoencoderKL) -> nn.ModuleDict:
    """By levels run: a linear readout of the 4 x 4 or 2 x 2 pixels that a position of the features stands for. Training only."""
    widths = {levels: vae.decoder.up_blocks[levels - 1].resnets[-1].out_channels for levels in (1, 2)}
    return nn.ModuleDict({str(levels): nn.Conv2d(width, 4 ** (3 - levels), 1) for levels, width in widths.items()})


def decode_early(vae: AutoencoderKL, heads: nn.ModuleDict, levels: int, scaled: Tensor) -> Tensor:
    """As `decode`, from the features after the first `levels` levels of the decoder."""
    features = vae.decoder.mid_block(vae.decoder.conv_in(vae.post_quant_conv(scaled / SCALING)))
    for block in vae.decoder.up_blocks[:levels]:
        features = block(features)
    return F.pixel_shuffle(heads[str(levels)](features), 2 ** (3 - levels)) / 2 + 0.5


def decode(vae: AutoencoderKL, scaled: Tensor) -> Tensor:
    """Scaled latents (B, 4, h, w) -> picture (B, 1, 8h, 8w), black 0, white 1, not clamped."""
    return vae.decode(scaled / SCALING).sample[:, :1] / 2 + 0.5


class Crops:
    """Random square crops of the training pictures and spectrograms."""

    def __init__(self, data: Path, rng: np.random.Generator):
        self.sources = [np.load(data / name / "train.npy", mmap_mode="r") for name in ("pictures", "sounds")]
        self.rng = rng

    def draw(self, count: int, side: int) -> Tensor:
        """(count, side, side), 0..1. A crop without content is drawn again, once in a while kept."""
        crops = []
        while len(crops) < count:
            source = self.sources[int(self.rng.random() < SOUND_SHARE)]
            canvas = source[self.rng.integers(len(source))]
            top, left = (self.rng.integers(size - side + 1) for size in canvas.shape)
            crop = canvas[top : top + side, left : left + side]
            if crop.std() > 4 or self.rng.random() < 0.1:
                crops.append(crop)
        return torch.from_numpy(np.stack(crops)).float() / 255


def loss_of(shown: Tensor, wanted: Tensor) -> Tensor:
    """L1 at three scales, and L1 of the differences between neighbours, which keeps edges sharp."""
    loss = sum(F.l1_loss(F.avg_pool2d(shown, scale), F.avg_pool2d(wanted, scale)) for scale in (1, 2, 4))
    return loss + F.l1_loss(shown.diff(dim=-1), wanted.diff(dim=-1)) + F.l1_loss(shown.diff(dim=-2), wanted.diff(dim=-2))


def train(data: Path, minutes: float, resume: bool, seed: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    code = LatentCode.load(data / "latent_code.npz")
    crops = Crops(data, np.random.default_rng(seed))
    vae = build_vae()
    write_code(vae, code, latent_energy(data, code))
    initialise_decoder(vae)
    heads = build_heads(vae)
    averaged = copy.deepcopy(vae)
    decoder = [*vae.post_quant_conv.parameters(), *vae.decoder.parameters()]
    averaged_decoder = [*averaged.post_quant_conv.parameters(), *averaged.decoder.parameters()]
    trained = [*decoder, *heads.parameters()]
    matrices = [weight for weight in vae.decoder.parameters() if weight.ndim > 1 and weight is not vae.decoder.conv_out.weight]
    others = [parameter for parameter in trained if all(parameter is not weight for weight in matrices)]
    optimizers = [Muon(matrices, LEARNING_RATE), torch.optim.AdamW(others, LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0)]
    modules: dict[str, nn.Module] = {"vae": vae, "averaged": averaged, "heads": heads}
    step, spent = 0, 0.0

    folder = data / "vae"
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    if resume:
        state = torch.load(checkpoint, weights_only=True)
        for name, module in modules.items():
            module.load_state_dict(state[name])
        for optimizer, saved_state in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved_state)
        step, spent = state["step"], state["spent"]
        crops.rng = np.random.default_rng(seed + step)

    began, saved, recent = time.monotonic() - spent, time.monotonic(), []
    with (folder / "log.csv").open("a" if resume else "w", newline="") as file:
        log = csv.writer(file)
        while (progress := (time.monotonic() - began) / (60 * minutes)) < 1:
            side, count, levels = next(stage for until, *stage in STAGES if progress < until)
            wanted = crops.draw(count, side)
            latent = code.encode(wanted)
            latent += torch.randn_like(latent) * LATENT_NOISE * torch.rand(count, 1, 1, 1)
            shown = decode(vae, latent) if levels == 4 else decode_early(vae, heads, levels, latent)
            loss = loss_of(shown, wanted[:, None])
            rate = LEARNING_RATE * min(1, (step + 1) / 50) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
            for optimizer in optimizers:
                optimizer.zero_grad()
                for group in optimizer.param_groups:
                    group["lr"] = rate
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            for optimizer in optimizers:
                optimizer.step()
            step += 1
            recent.append(loss.item())

            decay = min(EMA_DECAY, step / (step + 10))
            with torch.no_grad():
                for average, parameter in zip(averaged_decoder, decoder, strict=True):
                    average.lerp_(parameter, 1 - decay)

            if step % 50 == 0:
                log.writerow([step, round(time.monotonic() - began), side, levels, f"{np.mean(recent):.4f}"])
                file.flush()
                recent.clear()
            if time.monotonic() - saved > 300:
                saved = time.monotonic()
                save(checkpoint, modules, optimizers, step, saved - began)
    save(checkpoint, modules, optimizers, step, 60 * minutes)


def save(checkpoint: Path, modules: dict[str, nn.Module], optimizers: list, step: int, spent: float) -> None:
    state = {name: module.state_dict() for name, module in modules.items()}
    state |= {"optimizers": [optimizer.state_dict() for optimizer in optimizers], "step": step, "spent": spent}
    partial = checkpoint.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(checkpoint)


def latent_energy(data: Path, code: LatentCode, count: int = 200) -> Tensor:
    """(4,), mean square of the code's channels over pictures and spectrograms alike."""
    latents = [code.encode(np.load(data / name / "train.npy", mmap_mode="r")[:count]) for name in ("pictures", "sounds")]
    return torch.cat(latents).square().mean(dim=(0, 2, 3))


@torch.no_grad()
def load_averaged(data: Path) -> AutoencoderKL:
    """The averaged weights of the checkpoint. Training sees the first channel only; here the other two become its copies: gray."""
    vae = build_vae()
    vae.load_state_dict(torch.load(data / "vae" / "checkpoint.pt", weights_only=True)["averaged"])
    for parameter in vae.decoder.conv_out.parameters():
        parameter[1:] = parameter[:1]
    return vae.eval()


@torch.inference_mode()
def evaluate(data: Path, split: str, count: int) -> dict:
    """Mean absolute difference in levels of 255 through the VAE, decoding the exact code, and the linear code's own inverse."""
    code, vae = LatentCode.load(data / "latent_code.npz"), load_averaged(data).half().float()
    decibels_a_level = 20 * math.log10(200 / 1e-5) / 255
    report = {}
    for name in ("pictures", "sounds"):
        canvases = np.load(data / name / f"{split}.npy", mmap_mode="r")
        chosen = canvases[np.linspace(0, len(canvases) - 1, count).astype(int)]
        errors = {"encoder, relative": [], "encode and decode": [], "decode the code": [], "linear inverse": []}
        for canvas in chosen:
            wanted = torch.from_numpy(canvas)[None].float() / 255
            exact = code.encode(wanted)
            encoded = vae.encode(wanted[:, None].expand(-1, 3, -1, -1) * 2 - 1).latent_dist.mode() * SCALING
            errors["encoder, relative"].append(((encoded - exact).norm() / exact.norm()).item())
            for key, shown in [
                ("encode and decode", decode(vae, encoded)[:, 0]),
                ("decode the code", decode(vae, exact)[:, 0]),
                ("linear inverse", code.decode(exact)),
            ]:
                errors[key].append(255 * (shown.clamp(0, 1) - wanted).abs().mean().item())
        report[name] = {key: float(np.mean(values)) for key, values in errors.items()}
    report["sounds"]["encode and decode, dB"] = report["sounds"]["encode and decode"] * decibels_a_level
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--minutes", type=float, default=50)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", action="store_true")
    parser.add_argument("--evaluate", action="store_true")
    parser.add_argument("--split", default="dev", choices=["dev", "heldout"])
    options = parser.parse_args()

    if options.evaluate:
        print(json.dumps(evaluate(options.data, options.split, 28), indent=1))
    elif options.export:
        load_averaged(options.data).half().save_pretrained(VAE_FOLDER / "vae")
    else:
        train(options.data, options.minutes, options.resume, options.seed)


if __name__ == "__main__":
    main()
