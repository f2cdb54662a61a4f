"""Makes canvases and sounds by the ways of example_ways.py, on the embedded models."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from itsound_core import spectrogram
from itsound_core.composition import Expert, compose
from itsound_core.cycle import cycle_consistency
from itsound_core.examples import EDGE, ExampleDenoiser, Gaussian
from itsound_core.griffin_lim import griffin_lim
from itsound_core.imprint import imprint, imprint_recording
from itsound_core.sampling import STABLE_DIFFUSION as SCHEDULE
from itsound_core.sampling import NoisePredictor, ddim, denoised, guided
from itsound_core.scoring import SoundScorer

from ..train.prompts import SUBJECTS
from .examine import DARK_COLUMNS, GRIFFIN_LIM_ITERATIONS
from .example_pictures import Picture
from .example_ways import SIZES, Way
from .folders import Folders
from .likeness import Likeness
from .models import Side, decode, load_vae

STEPS = 25
CONTEXT = 64
"""Pixels beside an example that its VAE sees too, as bridge/examples.py has it."""
GAPS = (0, 64)
"""Columns between two copies: an imprint's tiles have none, examples 8 latents."""
FOUND_SIGMA = 0.3
"""At which the examples' denoiser answers with the example that a finished canvas shows, at its place."""
ALONE = 3.5
"""Guidance of a sound that is imprinted."""
NEIGHBOURHOOD = 8
"""Standard deviation in pixels, a latent's width, of the mean around a pixel above which local contrast lifts it."""
FREE = 0.8
"""Of the photo, as from_a_photo's SolidMask has it."""


@dataclass
class Examples:
    """The two sides of a run with examples; the sound's is asked first."""

    way: Way
    denoiser: ExampleDenoiser
    audio: NoisePredictor
    late_audio: NoisePredictor
    heard: Tensor | None = field(default=None, init=False)

    def __call__(self, latents: Tensor, time: Tensor) -> Tensor:
        way, late = self.way, float(time) <= self.way.late
        weight = way.late_weight if late else way.audio_weight
        starts = (1000.0, 1000.0) if late else (1000 * way.t_audio, 1000 * way.t_image)
        experts = [Expert(self.sound, weight, starts[0]), Expert(self.picture, 1 - weight, starts[1])]
        return compose(experts, latents, time)

    def sound(self, latents: Tensor, time: Tensor) -> Tensor:
        noise = (self.late_audio if float(time) <= self.way.late else self.audio)(latents, time)
        self.heard = denoised(latents, noise, SCHEDULE.alpha(int(time)))
        return noise

    def picture(self, latents: Tensor, time: Tensor) -> Tensor:
        alpha = SCHEDULE.alpha(int(time))
        z, variance = latents / math.sqrt(alpha), (1 - alpha) / alpha
        at, total, heard = z, variance, self.heard
        if self.way.agreement and heard is not None:
            # Two measurements of x0, of precisions 1 / variance and `agreement`, are as good as one of their sum.
            total = 1 / (1 / variance + self.way.agreement)
            at = total * (z / variance + self.way.agreement * heard)
        seen = self.denoiser(at, torch.tensor(math.sqrt(total)))
        return (latents - math.sqrt(alpha) * seen) / math.sqrt(1 - alpha)


class Maker:
    """Models, and what has been made with them. folder: where the samples of a set are saved, `seed` is that of its first."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.folders = Folders()
        self.vae = load_vae(self.folders.vae)
        self.decoder = load_vae(self.folders.vae).to(torch.bfloat16)
        self.found: dict[tuple, Tensor] = {}
        self.scorer = SoundScorer.load(self.folders.clap)

    @cache  # noqa: B019  (it lives as long as the run, as all of these do)
    def side(self, name: str) -> tuple[Side, NoisePredictor]:
        side = Side.load(self.folders.of(name))
        unet = side.unet.to(torch.bfloat16)
        return side, lambda x, t, text=None: unet(x.bfloat16(), t, text).sample.float()

    @cache  # noqa: B019
    def predictor(self, name: str, prompt: str, guidance: float) -> NoisePredictor:
        side, unet = self.side(name)
        return guided(unet, side.embed([prompt]).bfloat16(), side.embed([""]).bfloat16(), guidance)

    def encode(self, picture: Tensor) -> Tensor:
        """(1, 4, 32, w / 8) of (256, w) in 0..1."""
        rgb = (2 * picture - 1)[None, None].expand(-1, 3, -1, -1)
        return self.vae.encode(rgb).latent_dist.mode() * self.vae.config["scaling_factor"]

    def decode(self, latents: Tensor) -> Tensor:
        return decode(self.decoder, latents.bfloat16())[0].float()

    @cache  # noqa: B019
    def likeness(self, picture: Picture) -> Likeness:
        return Likeness([scaled(picture.gray(), size) for size in SIZES], GAPS)

    @cache  # noqa: B019
    def denoiser(self, picture: Picture, way: Way) -> ExampleDenoiser:
        """What ExamplesAsModel makes of the picture: each size goes on from end to end with its gap, unless space is open."""
        groups, space = [], EDGE
        for size in way.sizes:
            shown = way.white * detailed(scaled(picture.gray(), size), way.detail).pow(way.power)
            if way.space == "open":
                framed = F.pad(shown[None], (CONTEXT, CONTEXT), mode="replicate")[0]
            else:
                shown = F.pad(shown, (0, 8 * way.gap))
                framed = shown[:, torch.arange(-CONTEXT, shown.shape[1] + CONTEXT) % shown.shape[1]]
            groups.append(self.encode(framed)[..., CONTEXT // 8 : -CONTEXT // 8])
        if way.space == "open":
            columns = torch.cat([group.movedim(0, -1).flatten(-2) for group in groups], dim=-1)
            mean = columns.mean(-1)
            space = Gaussian(mean, max(1.0, float((columns - mean[..., None]).square().mean())))
        return ExampleDenoiser(groups, way.coherence, True, way.gap if way.space == "open" else 0, space, way.temperature)

    def make(self, way: Way, picture: Picture, sound: str, seed: int) -> tuple[Tensor, Tensor]:
        """Canvas (256, 1024) in 0..1 and waveform (T,) at 16 kHz."""
        noise = torch.randn((1, 4, 32, 128), generator=torch.Generator().manual_seed(seed))
        if way.method == "examples":
            audio, late = (self.predictor("audio", sound, scale) for scale in (way.audio_guidance, way.late_guidance or way.audio_guidance))
            if way.after:
                canvas = self.imprinted_again(way, picture, sound, seed)
            else:
                canvas = self.decode(ddim(Examples(way, self.denoiser(picture, way), audio, late), noise, STEPS))
        elif way.method in ("onto", "repair"):
            canvas = self.decode(self.from_imprint(way, picture, sound, seed, noise))
        elif way.method == "photo":
            canvas = self.decode(self.from_photo(way, picture, sound, noise))
        else:
            canvas = self.alone(sound, seed, way.audio_guidance)
            if way.method == "imprint":
                canvas = imprint(picture.gray()[None, None], canvas[None], way.rho, "tile")[0]
        wave = griffin_lim(spectrogram.picture_to_mel(canvas[None]), iterations=GRIFFIN_LIM_ITERATIONS)[0]
        if way.method == "recording":
            wave = imprint_recording(picture.gray()[None], wave[None], spectrogram.AUFFUSION.sample_rate, way.rho, "tile")[0]
            canvas = spectrogram.waveform_to_picture(wave[None])[0]
        return canvas, wave

    def imprinted_again(self, way: Way, picture: Picture, sound: str, seed: int) -> Tensor:
        """The canvas without `after` (the one that is saved, where it is), imprinted with the examples where they lie on it."""
        before = replace(way, after=0.0)
        path = self.path(before, seed - self.seed)
        canvas = load(path) if path.exists() else self.make(before, picture, sound, seed)[0]
        key = (before, picture.name, sound)
        if key not in self.found:
            self.found[key] = self.decode(self.denoiser(picture, before)(self.encode(canvas), torch.tensor(FOUND_SIGMA)))
        return canvas * (1 - way.after * (1 - self.found[key]))

    def alone(self, sound: str, seed: int, guidance: float) -> Tensor:
        """Canvas of the sound without a picture; the one that is saved, where it is."""
        path = self.path(Way("sound", audio_guidance=guidance), seed - self.seed)
        if path.exists():
            return load(path)
        noise = torch.randn((1, 4, 32, 128), generator=torch.Generator().manual_seed(seed))
        return self.decode(ddim(self.predictor("audio", sound, guidance), noise, STEPS))

    def path(self, way: Way, index: int) -> Path:
        return self.folder / way.name / f"{index:02d}.png"

    def from_imprint(self, way: Way, picture: Picture, sound: str, seed: int, noise: Tensor) -> Tensor:
        """Latents of the sound with an imprint of itself as its example, or denoised from that."""
        latents = self.encode(imprint(picture.gray()[None, None], self.alone(sound, seed, ALONE)[None], way.rho, "tile")[0])
        audio = self.predictor("audio", sound, way.audio_guidance)
        if way.method == "onto":
            return ddim(Examples(way, ExampleDenoiser([latents], way.coherence), audio, audio), noise, STEPS)
        intervals = SCHEDULE.intervals(STEPS)[STEPS - round(way.denoise * STEPS) :]
        latents = self.noised(latents, noise, intervals[0][0])
        for timestep, following in intervals:
            estimate = audio(latents, torch.tensor(timestep))
            latents = self.noised(denoised(latents, estimate, SCHEDULE.alpha(timestep)), estimate, following)
        return latents

    def from_photo(self, way: Way, picture: Picture, sound: str, noise: Tensor) -> Tensor:
        """Latents as the template from_a_photo samples them, within a soft mask, from the picture as an imprint's tiles lay it."""
        start = self.encode(tiled(picture.gray()))
        image = self.predictor("image", picture.prompt, way.image_guidance)
        audio = self.predictor("audio", sound, way.audio_guidance)
        experts = [Expert(image, 1 - way.audio_weight, 900), Expert(audio, way.audio_weight)]
        intervals = SCHEDULE.intervals(STEPS)[STEPS - round(way.denoise * STEPS) :]
        latents = self.noised(start, noise, intervals[0][0])
        for timestep, following in intervals:
            alpha = SCHEDULE.alpha(timestep)
            inside = FREE * latents + (1 - FREE) * self.noised(start, noise, timestep)
            x0 = FREE * denoised(inside, compose(experts, inside, torch.tensor(timestep)), alpha) + (1 - FREE) * start
            estimate = (latents - math.sqrt(alpha) * x0) / math.sqrt(1 - alpha)
            latents = self.noised(x0, estimate, following)
        return latents

    @staticmethod
    def noised(x0: Tensor, noise: Tensor, timestep: int) -> Tensor:
        alpha = SCHEDULE.alpha(timestep)
        return math.sqrt(alpha) * x0 + math.sqrt(1 - alpha) * noise

    def examine(self, canvas: Tensor, wave: Tensor, picture: Picture, sound: str) -> dict[str, Any]:
        """The measures of a record; see examples.py."""
        cycle = cycle_consistency(canvas[None], wave[None])
        seen, likeness = cycle.picture[0], self.likeness(picture)
        wordings = list(SUBJECTS["audio"].values())
        heard = wave[: -DARK_COLUMNS * spectrogram.AUFFUSION.hop_length]
        own, *others = self.scorer(heard, spectrogram.AUFFUSION.sample_rate, [sound, *(words[0] for words in wordings)]).tolist()
        return {
            "picture": round(likeness.layout(seen)[0], 4),
            "canvas": round(likeness.layout(canvas)[0], 4),
            "pieces": round(likeness.pieces(seen), 4),
            "blocks": round(likeness.blocks(seen), 4),
            "clap": round(own, 2),
            "right": sound in wordings[int(np.argmax(others))],
            "cycle_db": round(float(cycle.error_db), 2),
        }


def load(path: Path) -> Tensor:
    return torch.from_numpy(np.asarray(Image.open(path), np.float32) / 255)


def scaled(picture: Tensor, size: float) -> Tensor:
    width = 8 * round(picture.shape[1] * size / 8)
    if width == picture.shape[1]:
        return picture
    return F.interpolate(picture[None, None], (picture.shape[0], width), mode="bicubic", antialias=True)[0, 0].clamp(0, 1)


def detailed(picture: Tensor, amount: float) -> Tensor:
    """(h, w) in 0..1 with more local contrast: an unsharp mask as wide as NEIGHBOURHOOD."""
    if not amount:
        return picture
    around = gaussian_blur(picture[None, None], 2 * [6 * NEIGHBOURHOOD + 1], 2 * [float(NEIGHBOURHOOD)])[0, 0]
    return (picture + amount * (picture - around)).clamp(0, 1)


def tiled(picture: Tensor) -> Tensor:
    return picture.repeat(1, 1024 // picture.shape[1] + 1)[:, :1024]
