"""Single files of models for the loaders, some with nothing behind their header, and ComfyUI's model folders moved to where they are."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import folder_paths
import pytest
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from itsound_core.weights import shapes_of

KEYS = ("checkpoints", "diffusion_models", "diffusers", "text_encoders", "vae", "vocoders", "embeddings")
HEADER_LENGTH = 8
HALF = 2  # bytes of a float16


def use_models_folder(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ComfyUI find models under `models` and nowhere else."""
    for key in KEYS:
        (models / key).mkdir(parents=True, exist_ok=True)
        extensions = folder_paths.folder_names_and_paths[key][1]
        monkeypatch.setitem(folder_paths.folder_names_and_paths, key, ([str(models / key)], extensions))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})


def load_pair(loaders: ModuleType, image: str, audio: str, **names: str) -> SimpleNamespace:
    """LoadDualUNets' outputs by name."""
    with torch.inference_mode():
        outputs = loaders.LoadDualUNets.execute(image_model_name=image, audio_model_name=audio, **names).args
    return SimpleNamespace(**dict(zip(("image_model", "image_clip", "audio_model", "audio_clip", "vae"), outputs, strict=True)))


def unet_shapes(**config: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a UNet of Stable Diffusion 1.x in its authors' layout (LDM)."""
    sd15 = {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 320,
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
        "use_spatial_transformer": True,
        "context_dim": 768,
        "num_heads": 8,
    }
    layers = {name: getattr(torch.nn, name) for name in ("Linear", "GroupNorm", "LayerNorm", "Conv2d")}
    operations = SimpleNamespace(**layers, conv_nd=lambda dims, *args, **kwargs: torch.nn.Conv2d(*args, **kwargs))
    with torch.device("meta"):
        return shapes_of(UNetModel(**sd15 | config, operations=operations).state_dict())


def one_level_unet(in_channels: int = 4) -> dict[str, torch.Tensor]:
    """State dict of the smallest UNet that ComfyUI's own detection takes for SD 1.5: full width, one level, all zeros."""
    level = {"num_res_blocks": [1], "channel_mult": [1], "transformer_depth": [1], "transformer_depth_output": [1, 1]}
    return {name: torch.zeros(shape, dtype=torch.float16) for name, shape in unet_shapes(in_channels=in_channels, **level).items()}


def write_hollow(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """A safetensors file of these tensors in float16, as large as a real one but with a hole on disk in the place of the weights."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + HALF * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(HEADER_LENGTH, "little") + text)
        file.truncate(HEADER_LENGTH + len(text) + end)
