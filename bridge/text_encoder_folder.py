"""The text encoder and tokenizer of a diffusers folder as a native CLIP, with Auffusion's condition adapter where the folder has one.

Names and numbers are those of transformers' CLIPTextModel. Auffusion's first two models (auffusion/auffusion, auffusion/auffusion-full)
were saved by a pipeline of their own: text encoder and tokenizer in one folder, and beside it an adapter, which condition_config.json
names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import comfy.clip_model
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.utils
import torch
from torch import Tensor, nn

from ..itsound_core.weights import require_fit, shapes_of
from .model_configs import CHOOSE_SD1, COPY_AGAIN, read_config, read_json, require_keys, require_names, require_settings
from .prompt_words import load_tokenizer
from .weight_files import TRANSFORMERS, native_shapes, read_file, read_weights

TEXT_ENCODER_SETTINGS = {"model_type": "clip_text_model", "layer_norm_eps": 1e-5}
OTHER_FAMILIES = {("model_type", "t5"): "a T5 text encoder", ("model_type", "clip"): "a whole CLIP, text and pictures"}
CONDITION_CONFIG = "condition_config.json"
ENCODER_NAME, ADAPTER_NAME = "text_encoder_name", "condition_adapter_name"
AUFFUSION_FOLDERS = {ENCODER_NAME: "text_encoder_0", ADAPTER_NAME: "condition_adapter_0"}
ADAPTER_FILES = ("condition_adapter.safetensors", "condition_adapter.pt")
ADAPTER_PREFIX = "condition_adapter."
ADAPTER_WIDTH = "adapter_width"
PADDING = 128
"""Rows of a text encoder without a token, at most: embeddings are made a round number of rows long."""


class TextModel(comfy.clip_model.CLIPTextModel):
    """Native CLIP text model with a vocabulary of any size; the stock one has 49 408 tokens."""

    def __init__(self, config: Mapping[str, Any], dtype: torch.dtype, device: torch.device | str, operations: Any) -> None:
        super().__init__(config, dtype, device, operations)
        self.set_input_embeddings(operations.Embedding(config["vocab_size"], config["hidden_size"], dtype=dtype, device=device))
        self.text_width = config["hidden_size"]


class AdaptedTextModel(TextModel):
    """CLIP and Auffusion's condition adapter: one linear layer and one norm over what CLIP writes, its padding set to zero before.

    The padding comes after the end token and CLIP looks back only, so the zeros are all that it changes.
    """

    def __init__(self, config: Mapping[str, Any], dtype: torch.dtype, device: torch.device | str, operations: Any) -> None:
        super().__init__(config, dtype, device, operations)
        self.text_width = config[ADAPTER_WIDTH]
        self.condition_adapter = nn.ModuleDict(
            {
                "proj": operations.Linear(config["hidden_size"], self.text_width, dtype=dtype, device=device),
                "norm": operations.LayerNorm(self.text_width, dtype=dtype, device=device),
            }
        )

    def forward(self, *args: Any, num_tokens: list[int], **kwargs: Any) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """As the stock model: last layer, the layer asked for, projected and plain pooled output. `num_tokens` counts each row's."""
        last, between, projected, pooled = super().forward(*args, num_tokens=num_tokens, **kwargs)
        return self._adapt(last, num_tokens), None if between is None else self._adapt(between, num_tokens), projected, pooled

    def _adapt(self, embeddings: Tensor, num_tokens: list[int]) -> Tensor:
        counts = torch.tensor(num_tokens, device=embeddings.device)[:, None]
        spoken = torch.arange(embeddings.shape[-2], device=embeddings.device) < counts
        return self.condition_adapter["norm"](self.condition_adapter["proj"](embeddings * spoken[..., None]))


class TextFolders(NamedTuple):
    """Where a model keeps its text encoder, its tokenizer and, if it has one, its adapter."""

    encoder: Path
    tokenizer: Path
    adapter: Path | None = None


def load_text_encoder(folder: Path, embedding_directory: list[str] | None = None, disable_dynamic: bool = False) -> comfy.sd.CLIP:
    """CLIP of a model's folder: the last layer with its final norm, and an adapter after it if there is one.

    The weights keep their file's precision: ComfyUI's default would round a float32 file to float16 (2e-3 relative on the embeddings), to
    save 250 MB at SD 1.5's size. Raises ValueError naming the file, what is wrong with it and what to do.
    """
    folders = _text_folders(folder)
    config = _text_config(folders.encoder / "config.json")
    positions, width, rows = config["max_position_embeddings"], config["hidden_size"], config["vocab_size"]
    tokenizer = load_tokenizer(folders.tokenizer, positions, width, embedding_directory)
    if not rows - PADDING < max(tokenizer.inv_vocab) + 1 <= rows:
        raise ValueError(
            f"{folders.tokenizer} has {max(tokenizer.inv_vocab) + 1} tokens, the text encoder beside it {rows}. "
            "Copy both from the same model."
        )
    path, weights = read_weights(folders.encoder, TRANSFORMERS, "a text encoder")
    weights = {native_text_name(name): tensor for name, tensor in weights.items() if not name.endswith("position_ids")}
    require_fit(path, shapes_of(weights), native_shapes(TextModel(config, torch.float32, "meta", nn)), optional={"text_projection.weight"})
    weights = {"text_projection.weight": torch.eye(width)} | weights
    if folders.adapter is not None:
        adapter = _read_adapter(folders.adapter, width)
        config[ADAPTER_WIDTH] = len(adapter["norm.weight"])
        weights |= {ADAPTER_PREFIX + name: tensor for name, tensor in adapter.items()}

    encoder = partial(
        comfy.sd1_clip.SDClipModel,
        max_length=positions,
        textmodel_json_config=config,
        model_class=TextModel if folders.adapter is None else AdaptedTextModel,
        special_tokens={"start": tokenizer.start_token, "end": tokenizer.end_token, "pad": tokenizer.pad_token},
        return_projected_pooled=False,
    )
    clip = comfy.sd.CLIP(
        comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel),
        tokenizer_data={"clip_l_tokenizer_class": lambda **options: tokenizer},
        parameters=comfy.utils.calculate_parameters(weights),
        state_dict=[weights],
        model_options={"clip_l_class": encoder, "dtype": comfy.utils.weight_dtype(weights)},
        disable_dynamic=disable_dynamic,
    )
    clip.patcher.cached_patcher_init = (_text_encoder_patcher, (folder, embedding_directory))
    return clip


def native_text_name(name: str) -> str:
    """transformers 5 saves a text model's weights without the prefix that all before it wrote."""
    return name if name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}"


def _text_encoder_patcher(folder: Path, embedding_directory: list[str] | None, disable_dynamic: bool = False) -> Any:
    return load_text_encoder(folder, embedding_directory, disable_dynamic).patcher


def _text_folders(folder: Path) -> TextFolders:
    parts = AUFFUSION_FOLDERS
    if os.path.isfile(folder / CONDITION_CONFIG):
        conditions = read_json(folder / CONDITION_CONFIG, list)
        names = [part.get(key) if isinstance(part, dict) else None for part in conditions for key in AUFFUSION_FOLDERS]
        if len(conditions) != 1 or not all(isinstance(name, str) and name and Path(name).name == name for name in names):
            raise ValueError(
                f"{folder / CONDITION_CONFIG} must name one text encoder and its adapter, folders beside it; it has {len(conditions)} "
                "entries. Choose auffusion/auffusion-full-no-adapter, which has neither."
            )
        parts = conditions[0]
    elif os.path.isdir(folder / "text_encoder") or not os.path.isdir(folder / parts[ENCODER_NAME]):
        return TextFolders(folder / "text_encoder", folder / "tokenizer")
    return TextFolders(folder / parts[ENCODER_NAME], folder / parts[ENCODER_NAME], folder / parts[ADAPTER_NAME])


def _text_config(path: Path) -> dict[str, Any]:
    config = read_config(path)
    require_settings(path, config, TEXT_ENCODER_SETTINGS, OTHER_FAMILIES, CHOOSE_SD1)
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
    require_keys(path, config, *sizes)
    if config["hidden_size"] % config["num_attention_heads"]:
        raise ValueError(
            f"{path}: num_attention_heads is {config['num_attention_heads']}, which does not divide hidden_size {config['hidden_size']}. "
            f"{COPY_AGAIN}"
        )
    activation = config.setdefault("hidden_act", "quick_gelu")
    require_names(path, "hidden_act", [activation], comfy.clip_model.ACTIVATIONS, CHOOSE_SD1)
    config.setdefault("eos_token_id", 2)  # native code wants the key; the tokenizer says which token ends a prompt
    return config


def _read_adapter(folder: Path, width: int) -> dict[str, Tensor]:
    """`proj` and `norm` of the adapter after a text encoder of that width."""
    config = read_config(folder / "config.json")
    require_keys(folder / "config.json", config, "condition_dim", "cross_attention_dim")
    if config["condition_dim"] != width:
        raise ValueError(
            f"{folder / 'config.json'}: condition_dim is {config['condition_dim']}, the text encoder beside it is {width} wide. "
            "Copy both from the same model."
        )
    path = next((folder / name for name in ADAPTER_FILES if os.path.isfile(folder / name)), None)
    if path is None:
        raise ValueError(f"{folder} has neither {' nor '.join(ADAPTER_FILES)}. Copy the model's whole folder.")
    weights, read_by_unet = read_file(path), config["cross_attention_dim"]
    vectors = dict.fromkeys(("proj.bias", "norm.weight", "norm.bias"), (read_by_unet,))
    require_fit(path, shapes_of(weights), {"proj.weight": (read_by_unet, width), **vectors})
    return weights
