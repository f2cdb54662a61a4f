"""Weights that a repository has as a pickle only, as safetensors: recent transformers refuse pickles beside torch before 2.6."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

from safetensors import SafetensorError, safe_open

from .hub import FetchError, File


def convert(pickled: Path, target: Path, file: File) -> None:
    """Write the checked weights of `pickled`, one tensor a name, as safetensors, and delete it."""
    import torch  # here, because most models need none of its seconds
    from safetensors.torch import save_file

    written = target.with_name(target.name + ".new")
    try:
        weights = torch.load(pickled, map_location="cpu", weights_only=True)
        tensors = {name: tensor.contiguous().clone() for name, tensor in weights.items()}  # each apart, as safetensors wants them
        save_file(tensors, written, metadata={"format": "pt", "converted_from": file.digest})
    except (pickle.UnpicklingError, RuntimeError, AttributeError, EOFError):
        raise FetchError(f"{file.path} does not hold plain weights, and nothing else is read from a pickle. It is {pickled}.") from None
    os.replace(written, target)
    pickled.unlink()


def converted_from(path: Path) -> str | None:
    """The digest of the file that `convert` made this one of; None where it is another."""
    try:
        with safe_open(path, "np") as weights:
            return (weights.metadata() or {}).get("converted_from")
    except SafetensorError:
        return None
