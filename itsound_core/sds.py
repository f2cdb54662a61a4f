"""Score distillation of one canvas by an image and an audio diffusion model: the paper's SDS baseline (A.1; DreamFusion, Poole 2023).

For each model, with x what is rendered of the canvas for it, the gradient is lambda E[w(t) (eps(x_t, t) - noise) dx / dtheta], w(t) = 1 -
alpha_t, and the model itself is not differentiated. It is taken through a surrogate loss whose gradient this is: the inner product of x
with w(t) (eps - noise), held fixed; a sum over the values of one rendering and a mean over the batch of renderings.
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

Renderer = Callable[[Tensor, torch.Generator], Tensor]
"""(canvas, generator) -> x (B, C, h, w), differentiable. The canvas is a picture (1, 1, H, W) in 0..1, but for `full_canvas`."""


@dataclass(frozen=True)
class DiffusionPrior:
    """A diffusion model that pulls the canvas towards what it finds likely.

    predict_noise: (noisy x (B, C, h, w), timestep) -> guided noise estimate of the same shape.
    alphas_cumprod: cumulative alphas of the model's schedule, (steps,).
    render: what the model is given of the canvas. Priors with one renderer get the same rendering in each step.
    weight: lambda. start: the first iteration in which the model is evaluated.
    """

    predict_noise: Callable[[Tensor, int], Tensor]
    alphas_cumprod: Tensor
    render: Renderer
    weight: float = 1.0
    start: int = 0


def surrogate(prior: DiffusionPrior, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A loss whose gradient is the prior's, and the mean square of (eps - noise), both ().

    One timestep for all of `x` (B, C, h, w), uniform in 2 % to 98 % of the schedule. Random numbers are drawn where the generator is.
    """
    steps = len(prior.alphas_cumprod)
    timestep = int(torch.randint(int(LOWEST_TIME * steps), int(HIGHEST_TIME * steps) + 1, (), generator=generator))
    noise = torch.randn(x.shape, generator=generator, device=generator.device).to(x)
    alpha = float(prior.alphas_cumprod[timestep])
    with torch.no_grad():
        residual = prior.predict_noise(alpha**0.5 * x + (1.0 - alpha) ** 0.5 * noise, timestep) - noise
    return prior.weight * (1.0 - alpha) * (residual * x).sum() / len(x), residual.square().mean()


def random_crops(count: int, size: int) -> Renderer:
    """A renderer of `count` random squares of the picture's height, resized to size x size, in -1..1 on three channels.

    Bilinear without antialiasing, as in the official code; an antialiased resize has no gradient on Apple's GPUs.
    """

    def render(picture: Tensor, generator: torch.Generator) -> Tensor:
        height, width = picture.shape[-2:]
        lefts = torch.randint(width - height + 1, (count,), generator=generator).tolist()
        crops = torch.cat([picture[..., left : left + height] for left in lefts])
        small = F.interpolate(crops, (size, size), mode="bilinear")
        return (2 * small - 1).expand(-1, 3, -1, -1)

    return render


def full_canvas(canvas: Tensor, generator: torch.Generator) -> Tensor:
    """The renderer of a canvas that is latents: they go to the model as they are."""
    return canvas


def latents_by(encode: Callable[[Tensor], Tensor], scale: float) -> Renderer:
    """A renderer of the whole picture through a VAE's encoder, the posterior sampled (paper A.1).

    encode: (1, 3, H, W) in -1..1 -> mean and log variance, (1, 2 C, H / 8, W / 8), differentiable. scale: from the VAE's latents to the
    model's.
    """

    def render(picture: Tensor, generator: torch.Generator) -> Tensor:
        mean, log_variance = encode((2 * picture - 1).expand(-1, 3, -1, -1)).chunk(2, dim=1)
        noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean)
        return scale * (mean + (0.5 * log_variance.clamp(-30.0, 20.0)).exp() * noise)

    return render


class Distillation:
    """The optimisation of a canvas: parameters, optimiser (AdamW, weight decay 1e-3) and random state, saved and loaded as one."""

    def __init__(self, canvas: nn.Module, priors: Sequence[DiffusionPrior], learning_rate: float = 1e-4, seed: int = 0) -> None:
        self.canvas, self.priors = canvas, list(priors)
        self.optimizer = torch.optim.AdamW(canvas.parameters(), learning_rate, weight_decay=WEIGHT_DECAY)
        self.generator = torch.Generator().manual_seed(seed)
        self.iteration = 0

    def step(self) -> list[Tensor | None]:
        """One update of the canvas; the mean square of (eps - noise) of each prior, None of one that is not evaluated yet.

        A step that ends in an exception, as when the user cancels, leaves the state as it was at its start. Raises ValueError where no
        prior is evaluated.
        """
        random_state = self.generator.get_state()
        try:
            losses, residuals = self._losses()
            self.optimizer.zero_grad(set_to_none=True)
            torch.stack(losses).sum().backward()
        except BaseException:  # ComfyUI's interrupt is one
            self.generator.set_state(random_state)
            raise
        self.optimizer.step()
        self.iteration += 1
        return residuals

    def _losses(self) -> tuple[list[Tensor], list[Tensor | None]]:
        canvas = self.canvas()
        rendered: dict[Renderer, Tensor] = {}
        losses: list[Tensor] = []
        residuals: list[Tensor | None] = []
        for prior in self.priors:
            if self.iteration < prior.start or prior.weight == 0:
                residuals.append(None)
                continue
            if prior.render not in rendered:
                rendered[prior.render] = prior.render(canvas, self.generator)
            loss, residual = surrogate(prior, rendered[prior.render], self.generator)
            losses.append(loss)
            residuals.append(residual)
        if not losses:
            raise ValueError(f"No model is evaluated at iteration {self.iteration}: all start later, or have the weight 0.")
        return losses, residuals

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
