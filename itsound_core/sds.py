"""Score distillation of one canvas under an image and an audio model: the paper's SDS baseline (A.1; DreamFusion, Poole et al. 2023).

For each model, with x what it sees of the canvas, the gradient is lambda E[w(t) (eps(x_t, t) - noise) dx / dtheta], w(t) = 1 - alpha_t, and
the model itself is not differentiated. It is taken through a surrogate whose gradient this is: the inner product of x with w(t)
(eps - noise), held fixed; a sum over the values of one sight and a mean over the sights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOWEST_TIME, HIGHEST_TIME = 0.02, 0.98
WEIGHT_DECAY = 1e-3

Sight = Callable[[Tensor, torch.Generator], Tensor]
"""(canvas, generator) -> what a model sees of it, (B, C, h, w), differentiable. Of a picture (1, 1, H, W) in 0..1, but for `whole`."""


@dataclass(frozen=True)
class Critic:
    """One model's say in the canvas.

    predict_noise: (noisy (B, C, h, w), timestep) -> guided noise estimate of the same shape.
    alphas_cumprod: cumulative alphas of the model's schedule, (steps,).
    sight: what it sees. Critics that share one sight see the same sample of it in each step.
    weight: lambda. start: the iteration from which it has a say.
    """

    predict_noise: Callable[[Tensor, int], Tensor]
    alphas_cumprod: Tensor
    sight: Sight
    weight: float = 1.0
    start: int = 0


def surrogate(critic: Critic, seen: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A scalar whose gradient is the critic's, and the mean square of (eps - noise), both ().

    One timestep for all of `seen` (B, C, h, w), uniform in 2 % to 98 % of the schedule. Random numbers are drawn where the generator is.
    """
    steps = len(critic.alphas_cumprod)
    timestep = int(torch.randint(int(LOWEST_TIME * steps), int(HIGHEST_TIME * steps) + 1, (), generator=generator))
    noise = torch.randn(seen.shape, generator=generator, device=generator.device).to(seen)
    alpha = float(critic.alphas_cumprod[timestep])
    with torch.no_grad():
        residual = critic.predict_noise(alpha**0.5 * seen + (1.0 - alpha) ** 0.5 * noise, timestep) - noise
    return critic.weight * (1.0 - alpha) * (residual * seen).sum() / len(seen), residual.square().mean()


def square_crops(count: int, size: int) -> Sight:
    """A sight of `count` random squares of the picture's height, resized to size x size (antialiased), in -1..1 on three channels."""

    def sight(picture: Tensor, generator: torch.Generator) -> Tensor:
        height, width = picture.shape[-2:]
        lefts = torch.randint(width - height + 1, (count,), generator=generator).tolist()
        crops = torch.cat([picture[..., left : left + height] for left in lefts])
        small = F.interpolate(crops, (size, size), mode="bilinear", antialias=True)
        return (2 * small - 1).expand(-1, 3, -1, -1)

    return sight


def whole(canvas: Tensor, generator: torch.Generator) -> Tensor:
    """A sight of the canvas as it is: of latents."""
    return canvas


def latents_by(encode: Callable[[Tensor], Tensor], scale: float) -> Sight:
    """A sight of the whole picture through a VAE's encoder, the posterior sampled (paper A.1).

    encode: (1, 3, H, W) in -1..1 -> mean and log variance, (1, 2 C, H / 8, W / 8), differentiable. scale: from the VAE's latents to the
    model's.
    """

    def sight(picture: Tensor, generator: torch.Generator) -> Tensor:
        mean, log_variance = encode((2 * picture - 1).expand(-1, 3, -1, -1)).chunk(2, dim=1)
        noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean)
        return scale * (mean + (0.5 * log_variance.clamp(-30.0, 20.0)).exp() * noise)

    return sight


class Distillation:
    """The canvas on its way: canvas, optimiser (AdamW, weight decay 1e-3) and random state, which can be saved and loaded at any step."""

    def __init__(self, canvas: nn.Module, critics: Sequence[Critic], learning_rate: float = 1e-4, seed: int = 0) -> None:
        self.canvas, self.critics = canvas, list(critics)
        self.optimizer = torch.optim.AdamW(canvas.parameters(), learning_rate, weight_decay=WEIGHT_DECAY)
        self.generator = torch.Generator().manual_seed(seed)
        self.iteration = 0

    def step(self) -> list[Tensor | None]:
        """One update of the canvas; the mean square of (eps - noise) of each critic, None of one that has no say yet.

        Raises ValueError where none has.
        """
        picture = self.canvas()
        seen: dict[Sight, Tensor] = {}
        losses: list[Tensor] = []
        residuals: list[Tensor | None] = []
        for critic in self.critics:
            if self.iteration < critic.start or critic.weight == 0:
                residuals.append(None)
                continue
            if critic.sight not in seen:
                seen[critic.sight] = critic.sight(picture, self.generator)
            loss, residual = surrogate(critic, seen[critic.sight], self.generator)
            losses.append(loss)
            residuals.append(residual)
        if not losses:
            raise ValueError(f"No critic has a say at iteration {self.iteration}.")
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(losses).sum().backward()
        self.optimizer.step()
        self.iteration += 1
        return residuals

    @torch.no_grad()
    def picture(self) -> Tensor:
        """The canvas as it is: a picture (1, 1, H, W) in 0..1, or latents."""
        return self.canvas().detach()

    def state_dict(self) -> dict[str, Any]:
        return {
            "canvas": self.canvas.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "iteration": self.iteration,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.canvas.load_state_dict(state["canvas"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.iteration = state["iteration"]
