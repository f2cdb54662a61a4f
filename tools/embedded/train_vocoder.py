"""Train the embedded HiFi-GAN generator on the sounds of sounds.py and the drawn canvases of canvases.py.

    python tools/embedded/train_vocoder.py [--data data] [--steps 6000] [--shape shape.json]
    python tools/embedded/train_vocoder.py [--data data] --export models/embedded-audio/vocoder

The input is what it is in use, an 8-bit picture, often blurred or noisy. A real clip's output is compared with its waveform (log-mel and
multi-resolution STFT; Yamamoto et al., arXiv 1910.11480); a drawn canvas has no waveform, so only its re-encoded log-mel counts. No
discriminator. One thread, seeded, a checkpoint every five minutes in `<data>/vocoder/`, from which it goes on; the learning rate falls
over the last third of the steps.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))


from itsound_core.spectrogram import (  # noqa: E402
    AUFFUSION,
    mel_filters,
    mel_to_log_mel,
    picture_to_log_mel,
    waveform_to_mel,
)
from itsound_core.vocoder import HiFiGAN, HiFiGANConfig  # noqa: E402

SHAPE = {
    "resblock": "2",
    "upsample_rates": [5, 4, 4, 2],
    "upsample_kernel_sizes": [10, 8, 8, 4],
    "upsample_initial_channel": 128,
    "resblock_kernel_sizes": [3, 7],
    "resblock_dilation_sizes": [[1, 3], [1, 3]],
    "num_mels": 256,
}
SEGMENT = 40  # frames
EDGE = 6  # frames at each end that the analysis window fills with reflected samples: not compared
CLIPS, CANVASES = 4, 2  # of each in a batch
STFT_SIZES = (256, 512, 1024, 2048)
LOG_MEL_MEAN, LOG_MEL_STD = -6.0, 4.0
AUDIBLE = 3e-4  # mel magnitude under which differences are not counted: 100 dB below a full-scale tone
FULL_SCALE_RMS = 0.25  # of a noise-like waveform whose peaks reach 1
LEARNING_RATE, EMA = 2e-3, 0.998
CHECKPOINT_SECONDS = 300


class CentredConv1d(nn.Conv1d):
    """Convolution whose parameters act on the standardised log-mel, so that they train well; `fold` gives the plain one."""

    def folded(self) -> tuple[Tensor, Tensor]:
        weight = self.weight / LOG_MEL_STD
        return weight, self.bias - LOG_MEL_MEAN * weight.sum(dim=(1, 2))

    def forward(self, log_mel: Tensor) -> Tensor:
        weight, bias = self.folded()
        return F.conv1d(log_mel, weight, bias, padding=self.padding)


def trainable(shape: dict) -> HiFiGAN:
    vocoder = HiFiGAN(HiFiGANConfig.from_dict(shape))
    plain = vocoder.conv_pre
    vocoder.conv_pre = CentredConv1d(plain.in_channels, plain.out_channels, plain.kernel_size[0], padding=plain.padding[0])
    return vocoder


def log_mel_of(waveform: Tensor) -> Tensor:
    return mel_to_log_mel(waveform_to_mel(waveform))


def reachable(log_mel: Tensor) -> Tensor:
    """The log-mel at the loudest level that a waveform within -1..1 can have: a bright picture is louder than full scale.

    The level is estimated by Parseval: mel / sum of the filter is the mean magnitude of that filter's bins.
    """
    filters = mel_filters()
    area = filters.sum(dim=1)
    bins = area / filters.amax(dim=1)
    power = (bins[:, None] * (log_mel.exp() / area[:, None]).square()).sum(dim=1)
    window_energy = 3 / 8 * AUFFUSION.win_length
    rms = (2 * power.amax(dim=1) / (AUFFUSION.n_fft * window_energy)).sqrt()
    excess = (rms / FULL_SCALE_RMS).log().clamp(min=0.0)
    return (log_mel - excess[:, None, None]).clamp(min=math.log(AUFFUSION.log_floor))


def degraded(picture: Tensor, rng: np.random.Generator) -> Tensor:
    """Pictures (B, n_mels, frames) as a diffusion model and a decoder leave them: some blurred, some noisy."""
    blurred = F.avg_pool2d(picture[:, None], 3, stride=1, padding=1, count_include_pad=False)[:, 0]
    blur = torch.from_numpy(rng.choice([0.0, 0.5, 1.0], size=len(picture), p=[0.5, 0.25, 0.25]).astype(np.float32))[:, None, None]
    noise = torch.from_numpy(rng.choice([0.0, 0.02], size=len(picture)).astype(np.float32))[:, None, None]
    noisy = torch.lerp(picture, blurred, blur) + noise * torch.from_numpy(rng.standard_normal(picture.shape, dtype=np.float32))
    return noisy.clamp(0.0, 1.0)


class Segments:
    """Random segments of clips (picture and waveform) and of canvases (picture)."""

    def __init__(self, data: Path) -> None:
        self.clips = np.load(data / "sounds" / "train.npy", mmap_mode="r")
        self.waves = np.load(data / "sounds" / "train_waves.npy", mmap_mode="r")
        self.canvases = np.load(data / "pictures" / "train.npy", mmap_mode="r")

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Pictures (CLIPS + CANVASES, n_mels, SEGMENT) in 0..1 and waveforms (CLIPS, SEGMENT x hop); clips come first."""
        pictures, waves, hop = [], [], AUFFUSION.hop_length
        for source, count in ((self.clips, CLIPS), (self.canvases, CANVASES)):
            for _ in range(count):
                i, start = rng.integers(len(source)), rng.integers(source.shape[-1] - SEGMENT + 1)
                pictures.append(source[i, :, start : start + SEGMENT])
                if source is self.clips:
                    waves.append(self.waves[i, start * hop : (start + SEGMENT) * hop])
        return torch.from_numpy(np.stack(pictures)).float() / 255, torch.from_numpy(np.stack(waves)).float() / 32767


def magnitude(waveform: Tensor, size: int) -> Tensor:
    spectrum = torch.stft(waveform, size, size // 4, window=torch.hann_window(size), return_complex=True)
    return (torch.view_as_real(spectrum).square().sum(-1) + 1e-7).sqrt()


def spectral_loss(output: Tensor, target: Tensor) -> Tensor:
    """Spectral convergence and log-magnitude difference, mean over the resolutions (arXiv 1910.11480, Eq. 4 and 5)."""
    losses = []
    for size in STFT_SIZES:
        ours, theirs = magnitude(output, size), magnitude(target, size)
        convergence = (theirs - ours).norm(dim=(1, 2)) / theirs.norm(dim=(1, 2)).clamp(min=1.0)
        losses.append(convergence.mean() + F.l1_loss(ours.log(), theirs.log()))
    return torch.stack(losses).mean()


def training_loss(vocoder: HiFiGAN, pictures: Tensor, waves: Tensor, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
    output = vocoder(picture_to_log_mel(degraded(pictures, rng)))
    interior = slice(EDGE, SEGMENT - EDGE)
    target = torch.cat([log_mel_of(waves), reachable(picture_to_log_mel(pictures[CLIPS:]))])
    floor = math.log(AUDIBLE)
    difference = (log_mel_of(output).clamp(min=floor) - target.clamp(min=floor)).abs()[..., interior]
    clip_mel, canvas_mel, spectral = difference[:CLIPS].mean(), difference[CLIPS:].mean(), spectral_loss(output[:CLIPS], waves)
    total = clip_mel + 0.5 * canvas_mel + 0.5 * spectral
    return total, {"clip_mel": clip_mel.item(), "canvas_mel": canvas_mel.item(), "spectral": spectral.item()}


def train(data: Path, shape: dict, steps: int, seed: int) -> None:
    folder = data / "vocoder"
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    torch.manual_seed(seed)
    vocoder = trainable(shape)
    average = {key: tensor.clone() for key, tensor in vocoder.state_dict().items()}
    optimizer = torch.optim.Adam(vocoder.parameters(), lr=LEARNING_RATE, betas=(0.8, 0.99))
    step = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        vocoder.load_state_dict(state["vocoder"])
        optimizer.load_state_dict(state["optimizer"])
        average, step = state["average"], state["step"]
    segments, saved, report = Segments(data), time.monotonic(), {}
    while step < steps:
        rng = np.random.default_rng((seed, step))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 50, 3 * (steps - step) / steps)
        loss, parts = training_loss(vocoder, *segments.draw(rng), rng)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vocoder.parameters(), 5.0)
        optimizer.step()
        step += 1
        decay = min(EMA, step / (step + 10))
        for key, tensor in vocoder.state_dict().items():
            average[key].lerp_(tensor, 1 - decay)
        report = {key: value if step == 1 else 0.98 * report.get(key, value) + 0.02 * value for key, value in parts.items()}
        if step % 50 == 0:
            print(step, " ".join(f"{key} {value:.3f}" for key, value in report.items()), time.strftime("%H:%M:%S"), flush=True)
        if step == steps or time.monotonic() - saved > CHECKPOINT_SECONDS:
            state = {"vocoder": vocoder.state_dict(), "optimizer": optimizer.state_dict(), "average": average, "step": step, "shape": shape}
            torch.save(state, checkpoint.with_suffix(".partial"))
            checkpoint.with_suffix(".partial").replace(checkpoint)
            saved = time.monotonic()


def export(data: Path, target: Path) -> None:
    """Write config.json and vocoder.safetensors (fp16) from the averaged weights of the checkpoint."""
    state = torch.load(data / "vocoder" / "checkpoint.pt", weights_only=True)
    vocoder = trainable(state["shape"])
    vocoder.load_state_dict(state["average"])
    weights = vocoder.state_dict()
    weights["conv_pre.weight"], weights["conv_pre.bias"] = vocoder.conv_pre.folded()
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.json").write_text(json.dumps(state["shape"], indent=2) + "\n")
    halves = {key: tensor.detach().half().contiguous() for key, tensor in weights.items()}
    safetensors.torch.save_file(halves, target / "vocoder.safetensors")
    print(f"{sum(tensor.numel() for tensor in weights.values())} parameters after {state['step']} steps -> {target}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shape", type=Path, help="JSON with another shape of the generator (keys of a HiFi-GAN config.json)")
    parser.add_argument("--export", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.export:
        export(options.data, options.export)
    else:
        train(options.data, json.loads(options.shape.read_text()) if options.shape else SHAPE, options.steps, options.seed)
