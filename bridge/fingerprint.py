"""What tells one loaded model from another, in every process and in every number format that holds its weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import torch
from torch import Tensor

SAMPLES = 8
"""Values of each weight that are kept, evenly spaced."""
HALF_ROUNDING, SMALLEST = 2.0**-8, 1e-7
"""By what bfloat16 rounds a value, relatively, and float16 one near zero."""


@dataclass(frozen=True)
class Fingerprint:
    """Names and shapes of all weights, a sample of their values, and what patches (LoRA) are to be put on them."""

    layout: str
    values: Tensor
    patches: str

    @classmethod
    def of(cls, patcher: comfy.model_patcher.ModelPatcher) -> Fingerprint:
        """Takes some milliseconds: no weight is read as a whole. The patches of a model that is loaded already do not count twice."""
        weights = patcher.model_state_dict()
        unpatched = {name: kept.weight for name, kept in patcher.backup.items() if name in weights}
        weights |= unpatched
        layout, values = hashlib.sha256(), []
        for name, weight in sorted(weights.items()):
            layout.update(f"{name} {tuple(weight.shape)}\n".encode())
            values += _sample(weight)
        patches = hashlib.sha256()
        for name, applied in sorted(patcher.patches.items(), key=lambda patch: str(patch[0])):
            patches.update(str(name).encode())
            _add(patches, applied)
        return cls(layout.hexdigest(), torch.tensor(values), patches.hexdigest())

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Fingerprint:
        return cls(**kept)

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def difference(self, other: Fingerprint) -> str | None:
        """What differs, in a user's words: "weights" or "LoRA"; None for the same model, loaded in fp16, bf16 or fp32."""
        if self.layout != other.layout or self.values.shape != other.values.shape:
            return "weights"
        tolerance = HALF_ROUNDING * torch.maximum(self.values.abs(), other.values.abs()) + SMALLEST
        if ((self.values - other.values).abs() > tolerance).any():
            return "weights"
        return "LoRA" if self.patches != other.patches else None


def _sample(weight: Tensor) -> list[float]:
    flat = weight.detach().flatten()
    return flat[:: max(1, len(flat) // SAMPLES)][:SAMPLES].float().tolist()


def _add(digest: Any, patch: Any) -> None:
    """Strengths and values of a patch as ModelPatcher keeps it: tuples, lists, tensors, numbers, and adapters that hold `weights`."""
    if isinstance(patch, Tensor):
        digest.update(repr((tuple(patch.shape), _sample(patch))).encode())
    elif isinstance(patch, (list, tuple)):
        for part in patch:
            _add(digest, part)
    elif hasattr(patch, "weights"):
        digest.update(type(patch).__name__.encode())
        _add(digest, patch.weights)
    elif patch is None or isinstance(patch, (str, int, float)):
        digest.update(repr(patch).encode())
