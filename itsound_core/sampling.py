"""DDIM on a noise predictor, as the paper samples (section 3.1, Eq. 1-2), and DPM-Solver++(2M) to compare it with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

NoisePredictor = Callable[[Tensor, Tensor], Tensor]
"""(latents (B, C, H, W), timestep ()) -> noise estimate (B, C, H, W).

The timestep lies in host memory, so that `compose` can tell who votes without waiting for the device.
"""

Callback = Callable[[int, Tensor, Tensor], None]
"""Called after each step with the 0-based step, the x0 estimate and the new latents."""


@dataclass(frozen=True)
class NoiseSchedule:
    """Scaled-linear betas and "leading" timesteps with an offset; the defaults are Stable Diffusion v1.5's."""

    training_steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    offset: int = 1

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """Cumulative alpha of each training step, (training_steps,), float64."""
        betas = torch.linspace(self.beta_start**0.5, self.beta_end**0.5, self.training_steps, dtype=torch.float64).square()
        return (1.0 - betas).cumprod(dim=0)

    def alpha(self, timestep: int) -> float:
        """Cumulative alpha at a timestep; before the first it is the first, not 1."""
        return float(self.alphas_cumprod[max(timestep, 0)])

    def sigma(self, timestep: int) -> float:
        """Noise level sqrt((1 - a) / a) at a timestep, as samplers in x0 space count it."""
        alpha = self.alpha(timestep)
        return math.sqrt((1.0 - alpha) / alpha)

    def timesteps(self, steps: int) -> list[int]:
        """Descending timesteps of a run: 100 steps are 991, 981, ..., 1.

        Raises ValueError when steps is not in 1 .. training_steps - offset.
        """
        most = self.training_steps - self.offset
        if not 1 <= steps <= most:
            raise ValueError(f"{steps} steps: a schedule of {self.training_steps} training steps takes 1 to {most}.")
        stride = self.training_steps // steps
        return [step * stride + self.offset for step in reversed(range(steps))]

    def intervals(self, steps: int) -> list[tuple[int, int]]:
        """Each of a run's `timesteps` with the one that follows it; the last one's lies before the first of the training."""
        return [(timestep, timestep - self.training_steps // steps) for timestep in self.timesteps(steps)]

    def draft(self, steps: int, places: Sequence[int]) -> list[tuple[int, int]]:
        """The same, of a draft that takes only some of the run's 0..steps noise levels."""
        levels = [*self.timesteps(steps), self.intervals(steps)[-1][1]]
        return list(pairwise(levels[place] for place in places))


STABLE_DIFFUSION = NoiseSchedule()


def guided(model: Callable, prompt: Tensor, null_prompt: Tensor, guidance_scale: float) -> NoisePredictor:
    """Classifier-free guidance, eps(null) + gamma (eps(y) - eps(null)) (Eq. 2), with both estimates from one batched call.

    model: a diffusers UNet or any callable (latents, timestep, embeddings) -> noise. prompt, null_prompt: text embeddings (1 or B, L, D);
    null_prompt is the empty or a negative prompt. At scale 1 the null prompt has no say and is not evaluated.
    """

    def predict(latents: Tensor, timestep: Tensor) -> Tensor:
        def estimate(inputs: Tensor, embeddings: Tensor) -> Tensor:
            output = model(inputs, timestep, embeddings)
            return output if isinstance(output, Tensor) else output.sample

        batch, timestep = len(latents), timestep.to(latents.device, non_blocking=True)
        if guidance_scale == 1.0:
            return estimate(latents, prompt.expand(batch, -1, -1))
        embeddings = torch.cat([null_prompt.expand(batch, -1, -1), prompt.expand(batch, -1, -1)])
        unconditional, conditional = estimate(latents.repeat(2, 1, 1, 1), embeddings).chunk(2)
        return unconditional + guidance_scale * (conditional - unconditional)

    return predict


def denoised(latents: Tensor, noise: Tensor, alpha: float) -> Tensor:
    """The x0 estimate, not clipped, that a noise estimate of the same shape means at cumulative alpha."""
    return (latents - math.sqrt(1.0 - alpha) * noise) / math.sqrt(alpha)


def ddim_step(
    latents: Tensor, noise: Tensor, alpha: float, next_alpha: float, eta: float = 0.0, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """One step of Eq. 1 from cumulative alpha to next_alpha; returns the next latents and the x0 estimate, which is not clipped.

    noise: estimate at `latents`, same shape. eta scales the fresh noise between 0 (DDIM) and 1 (DDPM), drawn on the generator's device.
    """
    x0 = denoised(latents, noise, alpha)
    sigma = eta * math.sqrt((1.0 - next_alpha) / (1.0 - alpha) * (1.0 - alpha / next_alpha))
    following = math.sqrt(next_alpha) * x0 + math.sqrt(1.0 - next_alpha - sigma**2) * noise
    if sigma > 0:
        device = generator.device if generator else latents.device
        fresh = torch.randn(latents.shape, generator=generator, device=device, dtype=latents.dtype)
        following = following + sigma * fresh.to(latents.device)
    return following, x0


@torch.no_grad()
def ddim(
    predict_noise: NoisePredictor,
    latents: Tensor,
    steps: int = 100,
    schedule: NoiseSchedule = STABLE_DIFFUSION,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Reverse process from unit Gaussian noise (B, C, H, W) to latents of the same shape (Eq. 1).

    predict_noise: for the joint model, `partial(compose, experts)` with the experts' starts in timesteps.
    """
    for step, (timestep, following) in enumerate(schedule.intervals(steps)):
        noise = predict_noise(latents, torch.tensor(timestep))
        latents, x0 = ddim_step(latents, noise, schedule.alpha(timestep), schedule.alpha(following), eta, generator)
        if callback is not None:
            callback(step, x0, latents)
    return latents


@torch.no_grad()
def dpm_solver_2m(
    predict_noise: NoisePredictor,
    latents: Tensor,
    steps: int = 20,
    schedule: NoiseSchedule = STABLE_DIFFUSION,
    places: Sequence[int] = (),
    callback: Callback | None = None,
) -> Tensor:
    """The same process from the same noise by DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, Algorithm 2), which needs fewer steps.

    Second order, with one evaluation a step: a step follows x0 extrapolated from this estimate and the one before; the first is DDIM's.
    places: of the 0..steps noise levels those that a draft takes; all without.
    """
    before, before_length = torch.empty(0), math.inf
    for step, (timestep, following) in enumerate(schedule.draft(steps, places or range(steps + 1))):
        noise = predict_noise(latents, torch.tensor(timestep))
        alpha, next_alpha = schedule.alpha(timestep), schedule.alpha(following)
        x0 = denoised(latents, noise, alpha)
        length = math.log(schedule.sigma(timestep) / schedule.sigma(following))  # in half the log of the signal-to-noise ratio
        target = x0 if step == 0 else x0 + length / (2.0 * before_length) * (x0 - before)
        latents = math.sqrt((1.0 - next_alpha) / (1.0 - alpha)) * latents - math.sqrt(next_alpha) * math.expm1(-length) * target
        before, before_length = x0, length
        if callback is not None:
            callback(step, x0, latents)
    return latents
