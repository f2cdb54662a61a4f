"""Multimodal denoising: a product of experts with warm start (paper section 3.2, Eq. 3-6).

The mean is the same on noise estimates and on denoised (x0) estimates, because at one noise level each is an affine function of the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .views import IDENTITY, View


@dataclass(frozen=True)
class Expert:
    """One factor of the product.

    predict: (latents, time) -> estimate, guidance included; noise or x0, the same for all experts of one product.
    weight: w_m >= 0, relative to the other experts' weights.
    start: the expert votes where time <= start, in the caller's unit of time: t_m * T timesteps, or the sigma there.
    view: how this expert sees the canvas.
    """

    predict: Callable[[Tensor, Tensor], Tensor]
    weight: float = 1.0
    start: float = math.inf
    view: View = IDENTITY


def mixing_weights(experts: Sequence[Expert], time: float) -> list[float]:
    """lambda_m = w_m H(start_m - time) / sum, one per expert (Eq. 5-6): they sum to one, and are 0 where an expert does not vote.

    Raises ValueError when no expert votes.
    """
    votes = [expert.weight if time <= expert.start else 0.0 for expert in experts]
    total = sum(votes)
    if total <= 0:
        raise ValueError(f"No expert votes at time {time:g}: weights {[e.weight for e in experts]}, starts {[e.start for e in experts]}.")
    return [vote / total for vote in votes]


def compose(experts: Sequence[Expert], latents: Tensor, time: Tensor) -> Tensor:
    """Weighted mean of the experts' estimates at the same latents and time (Eq. 4), each seen through its view.

    latents: (B, C, H, W); time: one timestep or sigma, as a scalar or as (B,) of equal values. An expert that does not vote is not
    evaluated. Raises ValueError when none votes.
    """
    weights = mixing_weights(experts, float(time.max()))
    seen: dict[int, Tensor] = {}  # the canvas through each view: experts on one view get the same tensor
    estimates = []
    for expert, weight in zip(experts, weights, strict=True):
        if weight > 0:
            view = expert.view
            if id(view) not in seen:
                seen[id(view)] = view.view(latents)
            estimates.append(weight * view.inverse_view(expert.predict(seen[id(view)], time)))
    return torch.stack(estimates).sum(dim=0)
