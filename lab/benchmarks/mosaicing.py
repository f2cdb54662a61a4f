"""A picture sampled from a photo and a recording, played by the recording's own pieces, by Griffin-Lim and by HiFi-GAN's phase.

    OMP_NUM_THREADS=1 python -m lab.benchmarks.mosaicing [--coherence 0.7] [recording.flac ...]
    OMP_NUM_THREADS=1 python -m lab.benchmarks.mosaicing --shifts [recording.flac ...]

Each of three pictures (workflows/inputs: cat, rocket, lighthouse) with each recording (those there, and those named), as mono at 16 kHz:
`ExampleDenoiser` on either side (picture: coherence 3.3 s, black gaps of 0.64 s; recording: --coherence), weights 0.5 and 0.5, 25 DDIM
steps of 10.24 s, seed 1, the embedded VAE. Means and standard deviations over these items:

- meant: mean difference in dB of the sound, encoded again, from the picture, at the picture's level;
- picture: the correlation of the two;
- wave: how much of the sound is the recording's own wave: of 64 ms every quarter of a second, the largest correlation with the
  recording at any lag, weighted by their level;
- frames: mean difference in dB of each column of the sound from the column of the recording that is nearest, each at its own level.

"recording" is the recording itself, repeated. --shifts encodes the recordings at offsets of 8, 4, 2 and 1 pixels (`shifts` of Examples as
Model) and asks each back from noise of sigma 0.5 around itself, moved by 0 to 7 pixels, at --coherence. Its figures: root mean square
difference of the latents as a share of theirs, and seconds a step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from itsound_core.composition import Expert, compose
from itsound_core.cycle import change_level, cycle_consistency, level_db
from itsound_core.examples import ExampleDenoiser
from itsound_core.griffin_lim import griffin_lim
from itsound_core.mosaicing import mosaic
from itsound_core.resampling import resample
from itsound_core.sampling import STABLE_DIFFUSION, NoisePredictor, ddim
from itsound_core.spectrogram import AUFFUSION, normalize_peak, picture_to_log_mel, picture_to_mel, waveform_to_picture
from itsound_core.vocoder import load_vocoder, replace_magnitude
from lab.evaluate.models import load_vae

REPO = Path(__file__).resolve().parents[2]
INPUTS = REPO / "workflows" / "inputs"
RATE = AUFFUSION.sample_rate
COLUMNS, GAP = 1024, 64
PICTURE_WINDOW = 41
"""Latent columns of 3.3 s."""
WINDOW, HOP = 1024, 4096
"""Samples that are compared with the recording at a time."""


class Codec:
    """The embedded VAE in the models' scale."""

    def __init__(self) -> None:
        self.vae = load_vae(REPO / "models" / "embedded-image" / "vae")
        self.scale = self.vae.config["scaling_factor"]

    def encode(self, picture: Tensor) -> Tensor:
        """(1, 4, 32, w / 8) of a picture (256, w)."""
        return self.vae.encode((2 * picture - 1)[None, None].expand(-1, 3, -1, -1)).latent_dist.mode() * self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """(256, w) in 0..1."""
        return (self.vae.decode(latents / self.scale, return_dict=False)[0].mean(1)[0] / 2 + 0.5).clamp(0, 1)


def recordings(paths: list[Path]) -> dict[str, Tensor]:
    """Mono (T,) at 16 kHz by name, of whole latent columns."""
    sounds = {}
    for path in [*sorted(INPUTS.glob("*.flac")), *sorted(INPUTS.glob("*.ogg")), *paths]:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        sound = normalize_peak(resample(torch.from_numpy(samples.mean(1))[None], rate, RATE))[0]
        sounds[path.stem] = sound[: len(sound) // (8 * AUFFUSION.hop_length) * 8 * AUFFUSION.hop_length]
    return sounds


def pictures() -> dict[str, Tensor]:
    """Gray pictures (256, w) in 0..1 by name, each followed by black."""
    found = {}
    for name in ("chelsea.png", "rocket.jpg", "lighthouse.png"):
        picture = Image.open(INPUTS / name).convert("L")
        width = 8 * round(picture.width * 32 / picture.height)
        gray = torch.from_numpy(np.asarray(picture.resize((width, 256)), np.float32) / 255)
        found[name.split(".")[0]] = F.pad(gray, (0, GAP))
    return found


def predictor(denoiser: ExampleDenoiser) -> NoisePredictor:
    def predict(latents: Tensor, timestep: Tensor) -> Tensor:
        alpha, sigma = STABLE_DIFFUSION.alpha(int(timestep)), STABLE_DIFFUSION.sigma(int(timestep))
        return (latents / alpha**0.5 - denoiser(latents / alpha**0.5, torch.tensor(sigma))) / sigma

    return predict


def sampled(codec: Codec, picture: Tensor, recording: Tensor, coherence: int) -> Tensor:
    """(256, COLUMNS) of a picture and a recording's picture, both as examples."""
    experts = [
        Expert(predictor(ExampleDenoiser([codec.encode(picture)], PICTURE_WINDOW)), weight=0.5, start=900),
        Expert(predictor(ExampleDenoiser([codec.encode(recording)], coherence // 8)), weight=0.5),
    ]
    noise = torch.randn(1, 4, 32, COLUMNS // 8, generator=torch.Generator().manual_seed(1))
    return codec.decode(ddim(partial(compose, experts), noise, steps=25))


def likeness_of_waves(sound: Tensor, recording: Tensor) -> float:
    windows = sound.unfold(0, WINDOW, HOP)
    size = 2 ** (len(recording) + WINDOW).bit_length()
    products = torch.fft.irfft(torch.fft.rfft(recording, size) * torch.fft.rfft(windows, size).conj(), size)[:, : len(recording) - WINDOW]
    energies = F.pad(recording.double().square().cumsum(0), (1, 0))
    norms = (energies[WINDOW:] - energies[:-WINDOW])[: products.shape[1]].clamp(min=1e-6).sqrt().float()
    levels = windows.norm(dim=-1)
    best = (products / norms).abs().amax(-1) / levels.clamp(min=1e-9)
    return float((best * levels).sum() / levels.sum())


def distance_to_frames(sound: Tensor, recording: Tensor) -> float:
    def columns(waveform: Tensor) -> Tensor:
        log_mel = picture_to_log_mel(waveform_to_picture(waveform[None])[0]).mT
        return log_mel - log_mel.mean(-1, keepdim=True)

    return float(torch.cdist(columns(sound), columns(recording), p=1).amin(-1).mean()) / AUFFUSION.n_mels * 20 / np.log(10)


def measures(picture: Tensor, sound: Tensor, recording: Tensor) -> list[float]:
    heard = change_level(sound[None], -level_db(picture[None], sound[None]))
    cycle = cycle_consistency(picture[None], heard)
    waves = likeness_of_waves(sound, recording)
    return [float(cycle.error_db), float(cycle.correlation), waves, distance_to_frames(heard[0], recording)]


def compare(paths: list[Path], coherence: int) -> None:
    codec, vocoder = Codec(), load_vocoder(REPO / "models" / "embedded-audio" / "vocoder")
    rows: dict[str, list[list[float]]] = {}
    for picture in pictures().values():
        for recording in recordings(paths).values():
            shown = sampled(codec, picture, waveform_to_picture(recording[None])[0], coherence)
            log_mel, mel = picture_to_log_mel(shown[None]), picture_to_mel(shown[None])
            ways: dict[str, Callable[[], Tensor]] = {
                "recording": lambda sound=recording: sound.repeat(-(-COLUMNS * AUFFUSION.hop_length // len(sound))),
                "own pieces": lambda sound=recording, shown=shown: mosaic(shown, sound[None], sound, RATE, coherence)[0],
                "Griffin-Lim": lambda mel=mel: griffin_lim(mel)[0],
                "HiFi-GAN's phase": lambda log_mel=log_mel, mel=mel: replace_magnitude(vocoder(log_mel), mel)[0],
            }
            for name, way in ways.items():
                began = time.process_time()
                sound = way()[: COLUMNS * AUFFUSION.hop_length]
                taken = time.process_time() - began
                rows.setdefault(name, []).append([*measures(shown, sound, recording), taken])
        show(rows)


def show(rows: dict[str, list[list[float]]]) -> None:
    print(f"{len(rows['recording'])} items\n{'':18}" + "".join(f"{name:>16}" for name in ("meant", "picture", "wave", "frames", "seconds")))
    for name, values in rows.items():
        cells = [f"{mean:.2f} ± {spread:.2f}" for mean, spread in zip(np.mean(values, 0), np.std(values, 0, ddof=1), strict=True)]
        print(f"{name:18}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


def measure_shifts(paths: list[Path], coherence: int) -> None:
    codec, sigma = Codec(), torch.tensor(0.5)
    turns = [waveform_to_picture(recording[None])[0] for recording in recordings(paths).values()]
    for step in (8, 4, 2, 1):
        errors, seconds = [], []
        for turn in turns:
            groups = [torch.cat([codec.encode(turn.roll(offset, -1)) for offset in range(0, 8, step)])]
            denoiser = ExampleDenoiser(groups, coherence // 8)
            for moved in range(8):
                latents = codec.encode(turn.roll(moved, -1))
                noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(moved))
                began = time.process_time()
                estimate = denoiser(latents + sigma * noise, sigma)
                seconds.append(time.process_time() - began)
                errors.append(float((estimate - latents).norm() / latents.norm()))
        print(
            f"{step} px: {np.mean(errors):.2f} ± {np.std(errors, ddof=1):.2f} of the latents, {np.mean(seconds):.3f} s a step", flush=True
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="*", type=Path)
    parser.add_argument("--coherence", type=float, default=0.7)
    parser.add_argument("--shifts", action="store_true")
    options = parser.parse_args()
    with torch.inference_mode():
        (measure_shifts if options.shifts else compare)(options.recordings, AUFFUSION.frames(options.coherence))
