"""Train the embedded HiFi-GAN generator on the sounds of sounds.py and the drawn canvases of canvases.py.

    python -m lab.train.train_vocoder [--data data] [--steps 800]
    python -m lab.train.train_vocoder [--data data] --export models/embedded-audio/vocoder

The budget is small, so the generator does not begin with random weights but as a channel vocoder (`start_as_filterbank`), whose analysis
and synthesis are then trained. The input is what it is in use, an 8-bit picture, often blurred or noisy. A real clip's output is compared
with its waveform (log-mel and multi-resolution STFT; Yamamoto et al., arXiv 1910.11480); a drawn canvas has no waveform, so only its
re-encoded log-mel counts. No discriminator. One thread, seeded, a checkpoint every few minutes in `<data>/vocoder/`, from which it goes on;
the learning rate falls over the last third of the steps.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

REPOSITORY = Path(__file__).resolve().parents[2]


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
    "upsample_rates": [2, 80],
    "upsample_kernel_sizes": [2, 300],
    "upsample_initial_channel": 128,
    "resblock_kernel_sizes": [1],
    "resblock_dilation_sizes": [[1, 1, 1, 1, 1, 1]],
    "num_mels": 256,
}
SEGMENT = 40  # frames
EDGE = 6  # frames at each end that the analysis window fills with reflected samples: not compared
CLIPS, CANVASES = 4, 2  # of each in a batch
STFT_SIZES = (256, 512, 1024, 2048)
LOG_MEL_MEAN, LOG_MEL_STD = -6.0, 4.0
AUDIBLE = 3e-4  # mel magnitude under which differences are not counted: 100 dB below a full-scale tone
FULL_SCALE_RMS = 0.25  # of a noise-like waveform whose peaks reach 1
KNOTS, BEND = (-6.0, -4.5, -3.0, -1.5, 0.0, 1.5), -0.78  # log-mels at which the exponential bends, each time by a factor of 4.2
BANDS_RATE, ATOMS_RATE, EMA = 5e-5, 3e-4, 0.99
CHECKPOINT_SECONDS = 200


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


@torch.no_grad()
def start_as_filterbank(vocoder: HiFiGAN) -> None:
    """Set the weights to a channel vocoder: each band's exp(log-mel) drives cosines at the multiples of the frame rate, with fixed phases.

    From random weights a generator of this size follows nothing but the envelope for its first thousand steps. conv_pre takes the mean
    log-mel of each band; the residual blocks of the first stage, each with one knot, bend it into an exponential; the second transposed
    convolution holds the cosines under a Hann window. A network without memory answers a steady input with a waveform of the frame's
    period, so other frequencies are out of reach of any weights. For SHAPE.
    """
    first, second = vocoder.ups
    bands, kernel, rate = first.out_channels, second.kernel_size[0], AUFFUSION.sample_rate
    bins, silence = AUFFUSION.n_mels // bands, math.log(AUFFUSION.log_floor)
    for layer in (first, second, vocoder.conv_post, *vocoder.resblocks[0].convs, *vocoder.resblocks[1].convs):
        layer.weight.zero_()
        layer.bias.zero_()
    band = torch.arange(bands)

    # Channel b holds log-mel - silence, which is positive. It goes on at every other step; in between there is silence.
    vocoder.conv_pre.weight.mul_(0.1)
    vocoder.conv_pre.weight[:bands] = 0
    for b in range(bands):
        vocoder.conv_pre.weight[b, bins * b : bins * (b + 1), vocoder.conv_pre.kernel_size[0] // 2] = LOG_MEL_STD / bins
    vocoder.conv_pre.bias[:bands] = LOG_MEL_MEAN - silence
    first.weight[band, band, 0] = -1
    first.bias[:] = KNOTS[0] - silence

    # y falls with the log-mel, steeply above each knot: one leaky ReLU bends it at each, and its last zero is silence.
    curve = KNOTS[0] - torch.linspace(silence, 3, 1000)
    for conv, following in zip(vocoder.resblocks[0].convs, (*KNOTS[1:], silence), strict=True):
        conv.weight[band, band, 0] = BEND
        bent = curve + BEND * F.leaky_relu(curve, 0.1)
        conv.bias[:] = -bent[round((following - silence) / (3 - silence) * 999)]
        curve = bent + conv.bias[0]
    amplitude = F.leaky_relu(curve, 0.1)
    loud = slice(500, None)
    scale = (torch.linspace(silence, 3, 1000).exp()[loud] / -amplitude[loud]).log().mean().exp()

    # Cosine h is shared by the bands whose centres are its neighbours, and a band between two cosines drives both.
    centres = (mel_filters().argmax(dim=1).float() * rate / AUFFUSION.n_fft).reshape(bands, bins).mean(dim=1)
    spacing = rate / AUFFUSION.hop_length
    lines = spacing * torch.arange(1, int(AUFFUSION.f_max / spacing))
    distance = (centres[:, None] - lines).abs()
    reach = torch.maximum(centres.diff(append=centres[-1:] * 2 - centres[-2:-1]), torch.tensor(spacing))
    share = (1 - distance / reach[:, None]).clamp(min=0)
    share = share / share.sum(dim=0).clamp(min=1)
    phase = 2 * math.pi * torch.rand(len(lines), generator=torch.Generator().manual_seed(0))
    time_axis = (torch.arange(kernel) - (kernel - 1) / 2) / rate
    cosines = torch.cos(2 * math.pi * lines[:, None] * time_axis + phase[:, None]) * torch.hann_window(kernel, periodic=False)
    mel_of_unit_cosine = AUFFUSION.win_length / 4 * float(mel_filters().sum(dim=1).mean())
    atoms = -(share @ cosines) * scale / mel_of_unit_cosine

    # Pairs of opposite sign pass the last leaky ReLU unbent.
    atoms = atoms * math.e  # the mean of a band's log-mels is about a neper less than the log of their mean
    positive = 2 * (band // 4)
    second.weight[band, positive], second.weight[band, positive + 1] = atoms, -atoms
    middle = vocoder.conv_post.kernel_size[0] // 2
    vocoder.conv_post.weight[0, 0::2, middle], vocoder.conv_post.weight[0, 1::2, middle] = 1.0, -1.0


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


def train(data: Path, steps: int, seed: int) -> None:
    folder = data / "vocoder"
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    torch.manual_seed(seed)
    vocoder = trainable(SHAPE)
    start_as_filterbank(vocoder)
    average = {key: tensor.clone() for key, tensor in vocoder.state_dict().items()}
    # What lies between holds the exponential: a small change there makes silence loud.
    vocoder.requires_grad_(False)
    trained = ((vocoder.conv_pre, BANDS_RATE), (vocoder.ups[1], ATOMS_RATE))
    groups = [{"params": list(layer.requires_grad_(True).parameters()), "lr": rate} for layer, rate in trained]
    optimizer = torch.optim.Adam(groups, betas=(0.8, 0.99))
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20, 3 * (steps - step) / steps))
    step = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        vocoder.load_state_dict(state["vocoder"])
        optimizer.load_state_dict(state["optimizer"])
        average, step = state["average"], state["step"]
        rates.last_epoch = step
    segments, saved, report = Segments(data), time.monotonic(), {}
    while step < steps:
        rng = np.random.default_rng((seed, step))
        loss, parts = training_loss(vocoder, *segments.draw(rng), rng)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vocoder.parameters(), 5.0)
        optimizer.step()
        rates.step()
        step += 1
        decay = min(EMA, step / (step + 10))
        for key, tensor in vocoder.state_dict().items():
            average[key].lerp_(tensor, 1 - decay)
        report = {key: value if step == 1 else 0.95 * report.get(key, value) + 0.05 * value for key, value in parts.items()}
        if step % 25 == 0:
            print(step, " ".join(f"{key} {value:.3f}" for key, value in report.items()), time.strftime("%H:%M:%S"), flush=True)
        if step == steps or time.monotonic() - saved > CHECKPOINT_SECONDS:
            state = {"vocoder": vocoder.state_dict(), "optimizer": optimizer.state_dict(), "average": average, "step": step, "shape": SHAPE}
            torch.save(state, checkpoint.with_suffix(".partial"))
            checkpoint.with_suffix(".partial").replace(checkpoint)
            saved = time.monotonic()


def export(data: Path, target: Path) -> None:
    """Write config.json and vocoder.safetensors from the averaged weights of the checkpoint.

    In fp16, but for the layers that hold the exponential: rounded, they would make silence as loud as -50 dB.
    """
    state = torch.load(data / "vocoder" / "checkpoint.pt", weights_only=True)
    vocoder = trainable(state["shape"])
    vocoder.load_state_dict(state["average"])
    weights = vocoder.state_dict()
    weights["conv_pre.weight"], weights["conv_pre.bias"] = vocoder.conv_pre.folded()
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.json").write_text(json.dumps(state["shape"], indent=2) + "\n")
    exact = ("conv_pre.bias", "ups.0.", "resblocks.")
    stored = {key: (tensor if key.startswith(exact) else tensor.half()).detach().contiguous() for key, tensor in weights.items()}
    safetensors.torch.save_file(stored, target / "vocoder.safetensors")
    print(f"{sum(tensor.numel() for tensor in weights.values())} parameters after {state['step']} steps -> {target}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.export:
        export(options.data, options.export)
    else:
        train(options.data, options.steps, options.seed)
