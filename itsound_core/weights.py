"""Whether a file of weights is what the config beside it describes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
NAMED = 3


def shapes_of(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of a state dict."""
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


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
        raise ValueError(f"{path} does not fit the config.json beside it: {details}. Both must come from the same model.")


def _briefly(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
