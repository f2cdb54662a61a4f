"""What comes in at the nodes' borders, of every kind: whether a widget can have it, whether it is of the socket's kind, in equal numbers.

Of pictures, sounds, prompts and what is sampled: `picture_inputs`, `audio_inputs`, `conditioning_inputs`, `sampling_inputs`.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence

import numpy as np
from comfy_api.latest import io
from torch import Tensor

LISTED, SHOWN = 50, 60
"""Choices, and characters of a value, that an error shows."""

CONDITIONING = "CONDITIONING"
MADE_OF: Mapping[str, tuple[str, ...]] = {
    "MODEL": ("model_options", "get_model_object", "clone"),
    "CLIP": ("tokenize", "clone"),
    "VAE": ("encode", "decode"),
    "GUIDER": ("sample", "model_patcher"),
    "VOCODER": ("patcher", "name"),
    "SCORER": ("picture", "sound", "embeddings"),
    "SCORES": ("picture", "sound", "table"),
    "DEEPFLOYD_IF": ("stage_1", "stage_2"),
}
"""By what a socket's value is known: other packs bring classes of their own."""


def in_range(node: type[io.ComfyNode], values: Mapping[str, object]) -> None:
    """Whether each value is one that its widget can have, or its socket: ComfyUI checks what is set in a widget, not what a link brings.

    values: the node's inputs by name, such as `locals()` of its execute; names that are no input's are passed over. Raises ValueError
    naming node, input, value, and the range, the choices or what to connect; NaN lies in no range, and True counts as 1, as it does for
    ComfyUI where it is set in a widget. IMAGE, AUDIO and LATENT are left to what reads them.
    """
    schema = node.SCHEMA or node.GET_SCHEMA()  # ComfyUI keeps it from when it loads a pack
    for widget in schema.inputs:
        if widget.id not in values:
            continue
        value, wanted = values[widget.id], None
        if isinstance(widget, (io.Int.Input, io.Float.Input)):
            whole = isinstance(widget, io.Int.Input)
            known = isinstance(value, numbers.Integral if whole else numbers.Real)
            if not known or not (widget.min is None or widget.min <= value) or not (widget.max is None or value <= widget.max):
                wanted = f"it is a {'whole ' if whole else ''}number from {widget.min} to {widget.max}"
        elif isinstance(widget, io.Combo.Input):
            wanted = _wanted_choice(node, widget, value)
        elif isinstance(widget, io.Boolean.Input) and not (isinstance(value, (numbers.Real, np.bool_)) and value in (0, 1)):
            wanted = "it is true or false"
        elif isinstance(widget, (io.String.Input, io.Color.Input)) and not isinstance(value, str):
            wanted = "it is text"
        if wanted:
            quoted = isinstance(widget, io.Combo.Input) and isinstance(value, str)
            found = f'"{shown(value)}"' if quoted else shown(value)
            raise ValueError(f"{schema.node_id}: {widget.id} is {found}; {wanted}. Change what is linked to it.")
    for socket in schema.inputs:
        value = values.get(socket.id)
        if socket.id in values and not (socket.optional and value is None) and not _fits(socket.get_io_type().split(","), value):
            found, kinds = "None" if value is None else f"a {type(value).__name__}", socket.get_io_type().replace(",", " or ")
            raise ValueError(f"{schema.node_id}: {socket.id} is {found}, no {kinds}. Connect an output of that kind, of a node that ran.")


def _fits(kinds: Sequence[str], value: object) -> bool:
    """Whether a socket of one of these kinds takes the value, as far as that can be told."""
    known = [kind for kind in kinds if kind in MADE_OF or kind == CONDITIONING]
    return not known or any(_conditions(value) if kind == CONDITIONING else _is_made_of(kind, value) for kind in known)


def _is_made_of(kind: str, value: object) -> bool:
    is_clip = kind != "CLIP" and hasattr(value, "tokenize")  # which has what a VAE has
    return not is_clip and all(hasattr(value, name) for name in MADE_OF[kind])


def _conditions(value: object) -> bool:
    """Whether it is a list of embeddings, each with a dict of options."""
    return isinstance(value, (list, tuple)) and all(
        isinstance(entry, (list, tuple))
        and len(entry) == 2
        and isinstance(entry[0], (Tensor, type(None)))
        and isinstance(entry[1], Mapping)
        for entry in value
    )


def _wanted_choice(node: type[io.ComfyNode], combo: io.Combo.Input, value: object) -> str | None:
    """What a combo takes, where the value is none of it."""
    if isinstance(value, str) and value in (combo.options or ()):
        return None
    (now,) = (widget for widget in node.define_schema().inputs if widget.id == combo.id)  # files may have come since
    choices = list(now.options)
    if isinstance(value, str) and value in choices:
        return None
    more = f" and {len(choices) - LISTED} more" if len(choices) > LISTED else ""
    return f"it is one of: {', '.join(map(str, choices[:LISTED]))}{more}" if choices else "there is nothing to choose from"


def shown(value: object) -> str:
    """A value as errors show it: on one line, cut after SHOWN characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def pair(first: Tensor, second: Tensor, node: str, sockets: tuple[str, str]) -> tuple[Tensor, Tensor]:
    """Both tensors with one batch size: a batch of one goes with every item of the other. Raises ValueError for any other difference."""
    sizes = len(first), len(second)
    if sizes[0] != sizes[1] and 1 not in sizes:
        raise ValueError(
            f"{node}: {sockets[0]} is a batch of {sizes[0]} and {sockets[1]} a batch of {sizes[1]}. "
            "Give both as many items, or one of them a single item."
        )
    return first.expand(max(sizes), *first.shape[1:]), second.expand(max(sizes), *second.shape[1:])


def finite(values: Tensor) -> bool:
    """Whether none of the values is NaN or infinite; one number is read from their device, and no mask of them all is made."""
    if not values.is_floating_point() or values.numel() == 0:
        return True
    lowest, highest = values.aminmax()
    return bool(lowest.isfinite() & highest.isfinite())
