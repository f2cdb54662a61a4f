"""DeepFloyd IF under a given gray part (paper A.1): its own DDPM, with the variance it predicts and its dynamic thresholding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from .colorize import split_gray, with_gray
from .sampling import NoisePredictor

if TYPE_CHECKING:
    from diffusers import DDPMScheduler, UNet2DConditionModel

REDUCTION = 4
"""Stage I works at a quarter of the canvas' height and width."""
CONDITION_LEVEL = 50
"""Timestep to which stage I's picture is noised before stage II sees it, unless another is asked for: the paper's."""
CHANNELS = 3

Callback = Callable[[Tensor], None]
"""Called after each step with the x0 estimate (B, 3, H, W) in -1..1."""


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance (Eq. 2) by T5 embeddings (1 or B, 77, D) of the prompt and of the empty or a negative one."""

    prompt: Tensor
    null_prompt: Tensor
    scale: float


def stage_1(
    unet: UNet2DConditionModel,
    scheduler: DDPMScheduler,
    spectrogram: Tensor,
    guidance: Guidance,
    steps: int,
    start_step: int,
    generator: torch.Generator,
    callback: Callback | None = None,
) -> Tensor:
    """Coloured picture (B, 3, H / 4, W / 4), about -1..1, of a spectrogram (B, 1, H, W) in 0..1.

    Sampling starts at step `start_step` of `steps`, from the noised spectrogram. The UNet must be able to halve H / 4 and W / 4 as often
    as it does (three times in IF).
    """
    gray = F.interpolate(spectrogram, scale_factor=1 / REDUCTION, mode="bilinear")
    return _sample(_guided(unet, guidance), scheduler, gray, steps, start_step, generator, callback)


def stage_2(
    unet: UNet2DConditionModel,
    scheduler: DDPMScheduler,
    noising_scheduler: DDPMScheduler,
    picture: Tensor,
    spectrogram: Tensor,
    guidance: Guidance,
    steps: int,
    generator: torch.Generator,
    callback: Callback | None = None,
    noise_level: int = CONDITION_LEVEL,
) -> Tensor:
    """Coloured picture (B, 3, H, W), about -1..1, of a spectrogram (B, 1, H, W) in 0..1 and stage I's picture of it.

    `noise_level` is a timestep of `noising_scheduler`: the higher, the less of stage I's picture stage II goes by.
    """
    condition = F.interpolate(picture, spectrogram.shape[-2:], mode="bilinear", align_corners=True)
    level = torch.full((len(condition),), noise_level, device=condition.device)
    condition = noising_scheduler.add_noise(condition, _randn_like(condition, generator), level)
    predict = _guided(unet, guidance, condition, level)
    return _sample(predict, scheduler, spectrogram, steps, 0, generator, callback)


@torch.no_grad()
def predict_noise(unet: UNet2DConditionModel, pixels: Tensor, timestep: int, guidance: Guidance) -> Tensor:
    """Stage I's guided noise estimate (B, 3, h, w) of noisy pixels of that shape; the variance is left out."""
    return _guided(unet, guidance)(pixels, torch.tensor(timestep, device=pixels.device))[:, :CHANNELS]


def _guided(unet: UNet2DConditionModel, guidance: Guidance, condition: Tensor | None = None, level: Tensor | None = None) -> NoisePredictor:
    """Guided noise and, after it, the variance predicted for the prompt: (B, 6, H, W). One call of the UNet evaluates both prompts."""

    def predict(pixels: Tensor, timestep: Tensor) -> Tensor:
        batch = len(pixels)
        inputs = pixels if condition is None else torch.cat([pixels, condition], dim=1)
        text = torch.cat([text.expand(batch, -1, -1) for text in (guidance.null_prompt, guidance.prompt)])
        labels = None if level is None else level.repeat(2)
        output = unet(inputs.repeat(2, 1, 1, 1).to(unet.dtype), timestep, text.to(unet.dtype), class_labels=labels).sample.float()
        (unconditional, _), (conditional, variance) = (estimate.split(CHANNELS, dim=1) for estimate in output.chunk(2))
        return torch.cat([unconditional + guidance.scale * (conditional - unconditional), variance], dim=1)

    return predict


@torch.no_grad()
def _sample(
    predict: NoisePredictor,
    scheduler: DDPMScheduler,
    gray: Tensor,
    steps: int,
    start_step: int,
    generator: torch.Generator,
    callback: Callback | None,
) -> Tensor:
    """After each ordinary step of the scheduler's, x_t <- gray(noised spectrogram at t) + colour(x_t); after the last, without noise.

    The noise is drawn anew for each step, always on three channels: DDPM forgets the last step's anyway. Sampling starts from the noised
    spectrogram itself, so that the steps before need not run.
    """
    given = (2 * gray - 1).expand(-1, CHANNELS, -1, -1)
    scheduler.set_timesteps(steps, device=gray.device)
    timesteps = scheduler.timesteps[start_step:]

    def noised(timestep: Tensor) -> Tensor:
        return scheduler.add_noise(given, _randn_like(given, generator), timestep[None])

    pixels = noised(timesteps[0])
    for timestep, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        step = scheduler.step(predict(pixels, timestep), timestep, pixels, generator)
        pixels = with_gray(step.prev_sample, split_gray(given if following is None else noised(following))[0])
        if callback is not None:
            callback(step.pred_original_sample)
    return pixels


def _randn_like(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Drawn where the generator is, so that a seed gives the same picture on every device."""
    return torch.randn(pixels.shape, generator=generator, device=generator.device).to(pixels)
