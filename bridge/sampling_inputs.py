"""What a sampler is given by sockets and widgets: latents and the numbers of their noises, seeds, noise levels, context windows."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import comfy.model_patcher
import comfy.samplers
from torch import Tensor

from . import inputs

LARGEST_SEED = 2**64 - 1
"""Of ComfyUI's seed widgets, and of PyTorch."""
MOST_NOISES = 2**16
"""Noises of a seed that are drawn, one after the other, to get at the one whose number a LATENT names."""

VIEW = "view"
"""Key of a LATENT: the view that EmptySpectrogramLatent made it for, other than none."""

MORE_STEPS = "Set steps to 2 or more, or choose another scheduler."
"""The remedy for sigmas that are NaN."""


def sampler_seed(seed: int) -> int:
    """The seed for the noise that a sampler draws itself: ComfyUI adds 1 to it (ddim), and PyTorch takes 64 bits."""
    return min(seed, LARGEST_SEED - 1)


def latent(given: Any, node: str, socket: str = "latent_image") -> Tensor:
    """The samples of a LATENT. Raises ValueError naming `node` and `socket` where it is none."""
    samples: Any = given.get("samples") if isinstance(given, Mapping) else None
    if not hasattr(samples, "is_nested"):  # ComfyUI's nested latents are no Tensor
        raise ValueError(f"{node}: {socket} is no LATENT. Connect EmptySpectrogramLatent, or VAE Encode.")
    if not samples.is_nested and 0 in samples.shape:
        raise ValueError(f"{node}: {socket} is empty ({tuple(samples.shape)}). Connect EmptySpectrogramLatent, or VAE Encode of a picture.")
    return samples


def same_view(node: str, given: Mapping[str, Any], view: str, socket: str = "latent_image") -> None:
    """Raise ValueError where EmptySpectrogramLatent made a LATENT for another view than this, of the same height: a sound would be lost."""
    made = given.get(VIEW, view)
    if view != "none" and made != view:
        raise ValueError(
            f"{node}: {socket} was made with view {made}, but view is {view} here. Set the same in EmptySpectrogramLatent, in the guider "
            "or sampler, and where the picture is played."
        )


def noise_numbers(given: Mapping[str, Any], node: str, socket: str = "latent_image") -> Sequence[int] | None:
    """`batch_index` of a LATENT that was taken out of a batch: which of a seed's noises is each item's; None where it was not.

    Raises ValueError naming `node` and `socket` for another count than there are samples, and for what is no number of a noise.
    """
    found = given.get("batch_index")
    if found is None or given["samples"].is_nested:  # which the guider refuses
        return None
    count = len(given["samples"])
    remedy = "Choose from the batch with LatentFromBatch, which keeps both the same."
    if len(found) != count:
        raise ValueError(f"{node}: {socket} is a batch of {count}, but batch_index names {len(found)}. {remedy}")
    wrong = [number for number in found if not isinstance(number, numbers.Integral) or not 0 <= int(number) < MOST_NOISES]
    if wrong:
        raise ValueError(f"{node}: batch_index of {socket} names {wrong[0]}; it counts samples, from 0 to {MOST_NOISES - 1}. {remedy}")
    return found


def noise_levels(
    node: str, model: comfy.model_patcher.ModelPatcher, steps: int, sampler_name: str, scheduler: str, denoise: float = 1.0
) -> Tensor:
    """Sigmas (steps + 1,), as ComfyUI's KSampler has them. Raises ValueError where the scheduler makes none, as kl_optimal of one step."""
    sigmas = comfy.samplers.KSampler(model, steps, model.load_device, sampler_name, scheduler, denoise).sigmas
    if not inputs.finite(sigmas):
        raise ValueError(f"{node}: at steps {steps} the noise levels of scheduler {scheduler} are NaN. {MORE_STEPS}")
    return sigmas


def context_windows(node: str, owner: str, model_options: Mapping[str, Any], shape: Sequence[int]) -> None:
    """Whether a model's context windows, if it has any, can be laid along latents of this shape.

    Raises ValueError naming `owner` for a dimension that latents do not have, and where windows overlap by their whole length or more:
    they would never come to the end.
    """
    windows = model_options.get("context_handler")
    length, overlap = getattr(windows, "context_length", 1), getattr(windows, "context_overlap", 0)
    dim = getattr(windows, "dim", 0)
    if dim >= len(shape):
        raise ValueError(f"{node}: {owner} has context windows along dim {dim}, and latents have {len(shape)}. Set dim to 3, the width.")
    if overlap >= length and shape[dim] > length:
        raise ValueError(
            f"{node}: {owner} has context windows with context_overlap {overlap} and context_length {length}. Set context_overlap below "
            "context_length, to a quarter of it for example."
        )
