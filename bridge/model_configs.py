"""The JSON files of a model's folder: what they must be, the settings that native classes fix, and numbers that can be built.

A config is read before any weights are, so whatever is absurd in one is refused here rather than built.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

CHOOSE_SD1 = "Choose an SD 1.x text-to-image model."
COPY_AGAIN = "Copy it again from the model's source."
GROUPS = 32
"""Of the norms in ComfyUI's UNet and VAE."""
MOST_LEVELS = 12
MOST = {
    "attention_head_dim": 2**10,
    "block_out_channels": 2**13,
    "condition_dim": 2**14,
    "cross_attention_dim": 2**14,
    "d_ff": 2**17,
    "d_kv": 2**10,
    "d_model": 2**14,
    "encoder_hid_dim": 2**14,
    "hidden_size": 2**14,
    "intermediate_size": 2**17,
    "layers_per_block": 2**4,
    "max_position_embeddings": 2**14,
    "num_attention_heads": 2**8,
    "num_heads": 2**8,
    "num_hidden_layers": 2**7,
    "num_layers": 2**7,
    "num_train_timesteps": 10**4,
    "relative_attention_num_buckets": 2**12,
    "sample_size": 2**14,
    "transformer_layers_per_block": 2**5,
    "vocab_size": 2**20,
}
"""Sizes that a config may give, from 1 up to several times those of the largest models published."""
BY_LEVEL = {"attention_head_dim", "block_out_channels", "layers_per_block", "sample_size", "transformer_layers_per_block"}
"""Sizes that may also be a list, a number for each level of a UNet or for each side."""


class Multiple(Fraction):
    """A level's width as a multiple of the first level's. Native code multiplies it out, which for 96 = 64 x 3/2 must give an int."""

    def __mul__(self, width: int) -> int:
        return int(super().__mul__(width))

    def __rmul__(self, width: int) -> int:
        return self * width


def read_json(path: Path, kind: type = dict) -> Any:
    """A model's JSON file, whose outermost value is of `kind`. Raises ValueError with a remedy where it is missing, broken or another."""
    if not os.path.isfile(path):  # not Path.is_file, which raises for a name that is too long
        raise ValueError(f"{path} is missing. Copy the model's whole folder, as diffusers saves it.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}). {COPY_AGAIN}") from error
    if not isinstance(content, kind):
        wanted = "an object {...}" if kind is dict else "a list [...]"
        raise ValueError(f"{path} holds {_briefly(content)}; {wanted} is needed. {COPY_AGAIN}")
    return content


def read_config(path: Path) -> dict[str, Any]:
    """The config at `path`, none of its sizes beyond what can be built. Raises ValueError naming the key."""
    config = read_json(path)
    for key in MOST.keys() & config.keys():
        _require_size(path, key, config[key])
    return config


def require_keys(path: Path, config: Mapping[str, Any], *keys: str) -> None:
    """A value for each key that has no default."""
    absent = [key for key in keys if config.get(key) is None]
    if absent:
        raise ValueError(f"{path} lacks {', '.join(absent)}. {COPY_AGAIN}")


def _require_size(path: Path, key: str, value: Any) -> None:
    sizes = value if isinstance(value, list) and key in BY_LEVEL else [value]
    whole = all(type(size) is int and 1 <= size <= MOST[key] for size in sizes)  # a bool is no size, and None is diffusers' default
    if value is not None and not (whole and 1 <= len(sizes) <= MOST_LEVELS):
        lists = f", or a list of {MOST_LEVELS} such numbers at most" if key in BY_LEVEL else ""
        raise ValueError(f"{path}: {key} is {_briefly(value)}; a whole number from 1 to {MOST[key]} is needed{lists}. {COPY_AGAIN}")


def require_settings(
    path: Path, config: Mapping[str, Any], settings: Mapping[str, Any], families: Mapping[tuple[str, str], str], remedy: str
) -> None:
    """Every setting that the native classes fix at the value they implement, to which diffusers defaults."""
    for key, native in settings.items():
        found = config.get(key, native)
        if found != native:
            family = families.get((key, str(found)), "not of the SD 1.x family")
            raise ValueError(f"{path} is {family}: {key} is {_briefly(found)} instead of {native!r}. {remedy}")


def require_names(path: Path, key: str, names: Any, known: Collection[Any], remedy: str) -> None:
    """A list of names, each one of `known`."""
    if not isinstance(names, list):
        raise ValueError(f"{path}: {key} is {_briefly(names)}; a list of names is needed. {COPY_AGAIN}")
    unknown = [name for name in names if name not in tuple(known)]  # what JSON holds need not be hashable
    if unknown:
        raise ValueError(f"{path}: {key} names {_briefly(unknown[0])}; native are {', '.join(sorted(map(repr, known)))}. {remedy}")


def level_widths(path: Path, config: Mapping[str, Any]) -> list[int]:
    """`block_out_channels`: a list of multiples of GROUPS."""
    widths = config["block_out_channels"]
    if not isinstance(widths, list):
        raise ValueError(f"{path}: block_out_channels is {_briefly(widths)}; a list is needed, a width for each level. {COPY_AGAIN}")
    if any(width % GROUPS for width in widths):
        raise ValueError(
            f"{path}: block_out_channels is {widths}; ComfyUI normalises in {GROUPS} groups, so every width must be a multiple of "
            f"{GROUPS}. Choose another model."
        )
    return widths


def share(path: Path, config: Mapping[str, Any], key: str) -> float:
    """The number at `key`, between 0 and 1. Python reads NaN and Infinity in JSON, too, which are not."""
    value = config.get(key)
    if not isinstance(value, float) or not 0 < value < 1:
        raise ValueError(f"{path}: {key} is {_briefly(value)}; a number between 0 and 1 is needed. {COPY_AGAIN}")
    return value


def by_level(path: Path, key: str, value: Any, levels: int) -> list[Any]:
    """One value for each level of a UNet, of a list of them or of one for all."""
    values = value if isinstance(value, list) else [value] * levels
    if len(values) != levels:
        raise ValueError(f"{path}: {key} is {_briefly(value)}, but block_out_channels has {levels} levels. {COPY_AGAIN}")
    return values


def _briefly(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
