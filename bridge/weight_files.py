"""Files of weights in a model's folder: the best of several, in one file or in the shards that an index names, and what it holds."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import comfy.utils
from torch import Tensor, nn

from ..itsound_core.weights import shapes_of
from . import files
from .model_configs import COPY_AGAIN, read_json

DIFFUSION = ("diffusion_pytorch_model",)
TRANSFORMERS = ("model", "pytorch_model")
FULL_FIRST, HALF_FIRST = ("", "fp16", "bf16"), ("fp16", "bf16", "")
"""Orders of preference among variants; any other one comes after these, by name."""
FORMATS = ("safetensors", "bin")
SHARD = re.compile(r"-\d+-of-\d+\.")
NAMED = 3
HALLMARKS = {
    "a UNet": "time_embedding.linear_1.weight",
    "a VAE": "decoder.conv_in.weight",
    "a text encoder": "embeddings.token_embedding.weight",
    "a T5 text encoder": "relative_attention_bias.weight",
    "a single-file checkpoint": "model.diffusion_model.input_blocks.0.0.weight",
    "a LoRA": "lora_up.weight",
}


def read_weights(folder: Path, stems: Sequence[str], kind: str, variants: Sequence[str] = FULL_FIRST) -> tuple[Path, dict[str, Tensor]]:
    """Path and tensors of the folder's weights as diffusers or transformers saves them; of shards, the path of their index.

    A file is named STEM[.VARIANT].safetensors or .bin, an index STEM.safetensors.index[.VARIANT].json. Safetensors come before pickles
    (read with weights_only=True), then `variants` count, then one file comes before shards. Raises ValueError where there are none,
    where a shard is missing, or where a file cannot be read or is not of `kind`, naming the file.
    """
    path = _best(folder, stems, variants)
    weights = _read_shards(path) if path.suffix == ".json" else read_file(path)
    found = kind_of(weights)
    if found != kind:
        raise ValueError(f"{path} should hold {kind}, but holds {found}. Put the right file there.")
    return path, weights


def kind_of(names: Collection[str]) -> str:
    """What a file holds, judged by the names of its weights: "a UNet", "a VAE", ..., "something else"."""
    return next((label for label, ending in HALLMARKS.items() if any(name.endswith(ending) for name in names)), "something else")


def _best(folder: Path, stems: Sequence[str], variants: Sequence[str]) -> Path:
    if not os.path.isdir(folder):
        raise ValueError(f"{folder} is missing. Copy the model's whole folder, as diffusers saves it.")
    names, ranked = sorted(entry.name for entry in os.scandir(folder) if entry.is_file()), []
    for name in names:
        stem, _, ending = name.partition(".")
        *words, last = ending.split(".")
        index = last == "json" and "index" in words
        if stem not in stems or SHARD.search(name) or not (index or last in FORMATS):
            continue
        variant = ".".join(word for word in words if word not in ("index", *FORMATS))
        rank = variants.index(variant) if variant in variants else len(variants)
        # an index of shards that were not copied, beside whole weights, as when all JSON files were and only one variant's weights
        only_index = index and not _has_shards(folder / name)
        ranked.append((only_index, "bin" in (*words, last), rank, index, name))
    if ranked:
        return folder / min(ranked)[-1]
    if any(SHARD.search(name) and name.startswith(tuple(stems)) for name in names):
        raise ValueError(f"{folder} has weights in shards, but not the file *.index.json that names them. Copy that file too.")
    wanted = " nor ".join(f"{stem}.{ending}" for stem, ending in zip((stems[0], stems[-1]), FORMATS, strict=True))
    raise ValueError(
        f"{folder} has neither {wanted}, nor a variant or shards of them. Copy the model's whole folder, as diffusers saves it."
    )


def _shards_of(index: Path) -> list[str]:
    shard_of = read_json(index).get("weight_map")
    if not isinstance(shard_of, dict) or not shard_of:
        raise ValueError(f"{index} has no weight_map, so it does not say which shard holds what. {COPY_AGAIN}")
    shards = list(dict.fromkeys(shard_of.values()))
    if not all(isinstance(shard, str) and shard and Path(shard).name == shard for shard in shards):
        raise ValueError(f"{index}: its weight_map names something else than files beside it. {COPY_AGAIN}")
    return shards


def _has_shards(index: Path) -> bool:
    """Whether any shard that the index names is there; of an index that is damaged, yes, so that it is told of."""
    try:
        return any(os.path.isfile(index.parent / shard) for shard in _shards_of(index))
    except (ValueError, TypeError, OSError):
        return True


def _read_shards(index: Path) -> dict[str, Tensor]:
    shards = _shards_of(index)
    missing = [shard for shard in shards if not os.path.isfile(index.parent / shard)]
    if missing:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise ValueError(f"{index.parent} lacks {', '.join(missing[:NAMED])}{more}, shards that {index.name} names. Copy them too.")
    weights: dict[str, Tensor] = {}
    for shard in shards:
        weights |= read_file(index.parent / shard)
    return weights


def read_file(path: Path) -> dict[str, Tensor]:
    """Tensors by name of one file, a pickle with weights_only=True. Raises ValueError where it cannot be read."""
    with files.reading(path):
        weights = comfy.utils.load_torch_file(str(path), safe_load=True)
        if not isinstance(weights, dict) or not all(isinstance(weight, Tensor) for weight in weights.values()):
            raise TypeError("it holds something else than named weights")
    return weights


def native_shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of a native module's weights by name, also of those that have no tensor yet."""
    shapes = shapes_of(module.state_dict())
    for name, layer in module.named_modules():
        # under dynamic VRAM these layers have no tensors before their file is read
        if isinstance(layer, nn.Linear):
            shapes[f"{name}.weight"] = (layer.out_features, layer.in_features)
            if layer.bias is not None or getattr(layer, "comfy_need_lazy_init_bias", False):
                shapes[f"{name}.bias"] = (layer.out_features,)
    return shapes
