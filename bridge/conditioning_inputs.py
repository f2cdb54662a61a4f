"""A CONDITIONING: text that a model can read, and where and when it counts."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping

import comfy.model_patcher
from torch import Tensor

from .inputs import finite, shown

FOREIGN_TEXT = "{node}: {socket} has embeddings {found} wide, {model} reads {width}. Encode the prompt with the clip of the same loader."


def text_width(model: comfy.model_patcher.ModelPatcher) -> int | None:
    """Width of the text embeddings that a MODEL reads; None where that is not known, or where another kind is translated for it (ELLA)."""
    if "model_function_wrapper" in model.model_options:
        return None
    unet_config = model.model.model_config.unet_config
    return unet_config.get("context_dim", unet_config.get("context_in_dim"))


def text(
    node: str, model: str, conditionings: Mapping[str, list], width: int | None, complaint: str = FOREIGN_TEXT, owner: str = ""
) -> None:
    """Whether each socket's CONDITIONING holds text, and embeddings of the width that `model` (its name in errors) reads; None: any width.

    Raises ValueError with `complaint`, in which {node}, {model}, {socket}, {found} and {width} are filled in; and, with `owner` before the
    socket's name, where a CONDITIONING is empty, has no tokens, or is NaN or infinite.
    """
    for socket, conditioning in conditionings.items():
        entries = [embeddings for embeddings, *_ in conditioning if isinstance(embeddings, Tensor)]
        found = {embeddings.shape[-1] for embeddings in entries if embeddings.ndim} - {width}
        if width is not None and found:
            raise ValueError(complaint.format(node=node, model=model, socket=socket, found=min(found), width=width))
        if not conditioning or any(embeddings.numel() == 0 for embeddings in entries):
            raise ValueError(f"{node}: {owner}{socket} conditioning is empty. Encode a prompt with CLIPTextEncode; its text may be empty.")
        if width is not None and (len(entries) < len(conditioning) or any(embeddings.ndim != 3 for embeddings in entries)):
            raise ValueError(
                f"{node}: {owner}{socket} conditioning holds no text embeddings, which are (prompts, tokens, width). Encode a prompt with "
                "CLIPTextEncode."
            )
        if not all(finite(embeddings) for embeddings in entries):
            raise ValueError(
                f"{node}: {owner}{socket} conditioning is NaN or infinite: its text encoder overflowed, or its file is damaged. "
                "Encode the prompt with another CLIP, or load that one in float32."
            )


def regions(node: str, owner: str, conditionings: Mapping[str, list], height: int, width: int) -> None:
    """Whether areas, masks and ranges of a CONDITIONING can be used on latents of height x width, as its model sees them.

    Raises ValueError naming `owner` and socket for an area that is empty or begins outside, a mask that is empty, and strengths, shares of
    the steps or masks that are NaN.
    """
    for socket, conditioning in conditionings.items():
        for _, options in conditioning:
            whose = f"{owner}{socket} conditioning"
            mask, area = options.get("mask"), options.get("area")
            if mask is not None and (mask.numel() == 0 or not finite(mask)):
                raise ValueError(f"{node}: the mask of {whose} is empty or NaN. Draw the mask anew.")
            for name in ("strength", "mask_strength", "start_percent", "end_percent"):
                if not _is_finite(options.get(name, 1.0)):
                    raise ValueError(f"{node}: the {name} of {whose} is {shown(options[name])}. Set it to a number, such as 1.")
            if area is None:
                continue
            share = area[0] == "percentage"
            sides = area[1:] if share else area
            if not all(map(_is_finite, sides)) or min(sides[:2]) <= (-1 if share else 0):
                raise ValueError(f"{node}: an area of {whose} has no size ({shown(area)}). Set its width and height anew.")
            y, x = (round(at * size) if share else at for at, size in zip(sides[-2:], (height, width), strict=True))
            if not (0 <= y < height and 0 <= x < width):
                raise ValueError(
                    f"{node}: an area of {whose} begins at x {x}, y {y}, outside of {width} x {height} latents as "
                    "that model sees them. Move the area (ConditioningSetArea counts pixels, 8 to a latent), or use a larger canvas."
                )


def _is_finite(number: object) -> bool:
    return isinstance(number, numbers.Real) and math.isfinite(number)
