"""Files of weights: what a header tells, whether they are what the config beside them describes, what to say when they cannot be read."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
NAMED = 3
ODD_CONTENT = (AttributeError, TypeError, LookupError, NameError)
"""What libraries raise of a content that they do not look at: Python's words on their code, which help nobody."""


def shapes_of(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of a state dict."""
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of a safetensors file, read from its header alone. Raises ValueError where the file is not whole."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except (SafetensorError, OSError) as error:
        raise unreadable(path, error) from error


def require_unpacked(path: Path | str) -> None:
    """Raise ValueError for a file of weights in a zip archive, as torch.save writes, whose entries are packed or overlap.

    torch.save packs nothing, so such a file holds no more than its own size; a packed one of a megabyte can fill the memory.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        held = sum(entry.file_size for entry in archive.infolist())
    if held > os.path.getsize(path):
        raise ValueError(f"it unpacks to {held / 1e6:.0f} MB, and torch saves weights unpacked")


def require_held(weights: Mapping[str, Tensor]) -> None:
    """Raise ValueError for a weight that stands for more numbers than its file holds of it.

    In a pickle a weight is a view of what is stored, in which one number can stand for any count: a kilobyte that fills the memory as soon
    as it is copied.
    """
    for name, weight in weights.items():
        if isinstance(weight, Tensor) and weight.numel() * weight.element_size() > weight.untyped_storage().nbytes():
            raise ValueError(f"its weight {name} has {weight.numel()} numbers, more than the file holds")


def told(error: Exception) -> str:
    """The text of an error in brackets, for the end of a sentence; nothing where it is Python's, of a library's code."""
    return "" if isinstance(error, ODD_CONTENT) else f" ({error})"


def unreadable(path: Path, error: Exception) -> ValueError:
    """What to tell of a file of weights that raised `error` when it was read with weights_only=True."""
    if isinstance(error, pickle.UnpicklingError):  # torch's own text advises to run the file's code
        return ValueError(
            f"{path} cannot be read: it is truncated, no file of weights, or a pickle that brings code, none of which was run. "
            "Download it again, as .safetensors where there is one."
        )
    return ValueError(f"{path} cannot be read; it is truncated or not a file of weights. Download it again.{told(error)}")


def require_fit(path: Path, found: Shapes, expected: Shapes, optional: Collection[str] = ()) -> None:
    """Every expected weight but the optional ones in the file at `path`, none besides, all of the shape that its config gives.

    Raises ValueError naming the file, what is missing, unknown or of another shape, and the remedy.
    """
    complaints = {
        "missing": [name for name in expected if name not in found and name not in optional],
        "unknown": [name for name in found if name not in expected],
        "of another shape": [
            f"{name} {shape} instead of {expected[name]}" for name, shape in found.items() if name in expected and shape != expected[name]
        ],
    }
    if any(complaints.values()):
        details = "; ".join(f"{what}: {_briefly(names)}" for what, names in complaints.items() if names)
        raise ValueError(f"{path} does not fit the config.json beside it: {details}. Copy both from the same model.")


def _briefly(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
