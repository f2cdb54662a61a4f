"""What a worker process has and does: models and judges, loaded once, and batches of samples made and examined."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from itsound_core.canvas import FourierCanvas, LatentParameters
from itsound_core.composition import Expert, compose
from itsound_core.sampling import STABLE_DIFFUSION, NoisePredictor, ddim, dpm_solver_2m
from itsound_core.sds import DiffusionPrior, Distillation, full_canvas, latents_by

from .examine import Examiner
from .folders import Folders
from .models import Side, decode, load_vae
from .rows import Row
from .samples import Sample

LATENT_SHAPE = (1, 4, 32, 128)
COSINE_HALF = 0.1
"""Share of the process before and after its start during which an expert sets in along a cosine."""
SDS_LAMBDA, SDS_WARM_START = 0.4, 1 / 8  # paper A.1: 5000 of 40 000 updates


@dataclass(frozen=True)
class Setup:
    """What a worker is started with. compiled: torch.compile the UNets, some 0.8 of the time on a CPU."""

    folders: Folders
    threads: int = 1
    compiled: bool = False


@dataclass(frozen=True)
class Task:
    """A batch of one row. made: its pictures (B, 256, 1024) in 0..1 where they are there already and are only examined."""

    name: str
    row: Row
    batch: Sequence[Sample]
    made: np.ndarray | None = None


@dataclass(frozen=True)
class Finished:
    """A record but for its files, and its picture, uint8 (256, 1024)."""

    record: dict[str, Any]
    picture: np.ndarray


class Worker:
    """Runs tasks. Models are loaded when a row first asks for them, onto a GPU where there is one."""

    def __init__(self, setup: Setup) -> None:
        torch.set_num_threads(setup.threads)
        disable_progress_bar()  # of loading, which would hide that of the run
        self.setup, self.device = setup, "cuda" if torch.cuda.is_available() else "cpu"
        self.sides: dict[str, Side] = {}

    @cached_property
    def vae(self):
        return load_vae(self.setup.folders.vae, self.device)

    @cached_property
    def examiner(self) -> Examiner:
        return Examiner(self.setup.folders, self.device)

    def side(self, name: str) -> Side:
        if name not in self.sides:
            self.sides[name] = Side.load(self.setup.folders.of(name), self.device)
            if self.setup.compiled:
                self.sides[name].unet.compile(dynamic=False)
        return self.sides[name]

    def run(self, task: Task) -> list[Finished]:
        """Make the pictures of a batch, if need be, and examine them."""
        began = time.perf_counter()
        batch, foreseen = list(task.batch), [{} for _ in task.batch]
        if task.made is not None:
            pictures = torch.from_numpy(task.made).to(self.device)
        elif task.row.method == "sds":
            pictures = torch.cat([self.distilled(task.row, sample) for sample in batch])
        else:
            pictures = self.denoised(task.row, batch, foreseen)
        if not pictures.isfinite().all():
            raise ValueError(f"{task.name}: a picture is not a number: a model's weights are damaged. Fetch it again, or name another.")
        examined = self.examiner(task.row, pictures, batch)
        seconds = round((time.perf_counter() - began) / len(batch), 2)
        levels = (255 * pictures).round().byte().cpu().numpy()
        records = [
            {"row": task.name, **task.row.settings(), **asdict(sample), **found, "seconds": seconds, "foreseen": scores}
            for sample, found, scores in zip(batch, examined, foreseen, strict=True)
        ]
        return [Finished(*pair) for pair in zip(records, levels, strict=True)]

    def denoised(self, row: Row, batch: list[Sample], foreseen: list[dict[int, tuple[float, float]]]) -> Tensor:
        """Pictures (B, 256, 1024) in 0..1. Each sample's `foreseen` gets its scores by the number of steps done."""

        def look(step: int, x0: Tensor, latents: Tensor) -> None:
            done = step + 1
            if row.foresee and row.telling <= done < row.steps and (done - row.telling) % row.foresee == 0:
                for scores, found in zip(self.examiner.foresee(decode(self.vae, x0), batch), foreseen, strict=True):
                    found[done] = scores

        noise = torch.cat([torch.randn(LATENT_SHAPE, generator=torch.Generator().manual_seed(sample.seed)) for sample in batch])
        noise, predict = noise.to(self.device), self.predictor(row, batch)
        if row.solver == "ddim":
            return decode(self.vae, ddim(predict, noise, row.steps, callback=look))
        return decode(self.vae, dpm_solver_2m(predict, noise, row.draft_of or row.steps, places=row.places, callback=look))

    def predictor(self, row: Row, batch: list[Sample]) -> NoisePredictor:
        """The product of the row's sides, with its warm start."""
        experts = []
        if row.image_guidance is not None:
            predict = self.side("image").predictor([sample.image_prompt for sample in batch], row.image_guidance)
            experts.append(Expert(predict, 1.0 - row.audio_weight, 1000 * row.t_image))
        if row.audio_guidance is not None:
            predict = self.side("audio").predictor([sample.audio_prompt for sample in batch], row.audio_guidance)
            experts.append(Expert(predict, row.audio_weight, 1000 * row.t_audio))
        if not row.joint:
            experts = [Expert(expert.predict) for expert in experts]
        if row.warm_start == "step":
            return partial(compose, experts)
        return lambda latents, time: compose([softened(expert, float(time)) for expert in experts], latents, time)

    def distilled(self, row: Row, sample: Sample) -> Tensor:
        """The SDS baseline's picture (1, 256, 1024) in 0..1; both models see latents: the canvas itself, or a picture through the VAE."""
        vae = self.vae
        if row.canvas == "latents":
            canvas, render = LatentParameters(seed=sample.seed), full_canvas
        else:
            canvas = FourierCanvas(frequencies=row.hidden // 2, hidden=row.hidden, seed=sample.seed)
            render = latents_by(lambda pixels: vae.quant_conv(vae.encoder(pixels)), vae.config["scaling_factor"])

        def prior(side: str, prompt: str, guidance: float | None, weight: float, start: int) -> DiffusionPrior:
            assert guidance is not None
            predict = self.side(side).predictor([prompt], guidance)

            def predict_noise(noisy: Tensor, timestep: int) -> Tensor:
                return predict(noisy, torch.tensor(timestep, device=self.device))

            return DiffusionPrior(predict_noise, STABLE_DIFFUSION.alphas_cumprod, render, weight, start)

        priors = [
            prior("image", sample.image_prompt, row.image_guidance, SDS_LAMBDA, round(SDS_WARM_START * row.steps)),
            prior("audio", sample.audio_prompt, row.audio_guidance, 1.0, 0),
        ]
        distillation = Distillation(canvas.to(self.device), priors, row.learning_rate, sample.seed)
        for _ in range(row.steps):
            distillation.step()
        found = distillation.picture()
        return decode(vae, found) if row.canvas == "latents" else found[:, 0]


def softened(expert: Expert, time: float) -> Expert:
    """The expert as it votes at a timestep, when it sets in along half a cosine around its start instead of at once there."""
    width = 1000 * COSINE_HALF
    if expert.start >= 1000:  # it is there from the beginning
        return expert
    through = min(max((expert.start + width - time) / (2 * width), 0.0), 1.0)
    return replace(expert, weight=expert.weight * (0.5 - 0.5 * math.cos(math.pi * through)), start=math.inf)
