"""Files of single models, for the loaders: a small UNet that is taken for SD 1.5's, and other families' headers with no weights behind."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

HEADER_LENGTH = 8
HALF = 2  # bytes of a float16


def one_level_unet(**config) -> dict[str, torch.Tensor]:
    """State dict of the smallest UNet that ComfyUI's own detection takes for SD 1.5: full width, one level, all zeros."""
    known = {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 320,
        "num_res_blocks": [1],
        "channel_mult": [1],
        "transformer_depth": [1],
        "transformer_depth_output": [1, 1],
        "transformer_depth_middle": 1,
        "use_spatial_transformer": True,
        "context_dim": 768,
        "num_heads": 8,
    }
    layers = {name: getattr(torch.nn, name) for name in ("Linear", "GroupNorm", "LayerNorm", "Conv2d")}
    operations = SimpleNamespace(**layers, conv_nd=lambda dims, *args, **kwargs: torch.nn.Conv2d(*args, **kwargs))
    with torch.device("meta"):
        unet = UNetModel(**known | config, dtype=torch.float16, operations=operations)
    return {name: torch.zeros(tensor.shape, dtype=torch.float16) for name, tensor in unet.state_dict().items()}


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
