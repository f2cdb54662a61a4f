"""The `vae/` of a diffusers folder as a native VAE: names and numbers of diffusers' AutoencoderKL, f = 8 with four channels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import comfy.sd
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from torch import Tensor

from ..itsound_core.latents import LATENT_SCALE
from ..itsound_core.weights import require_fit, shapes_of
from .model_configs import CHOOSE_SD1, GROUPS, Multiple, level_widths, read_config, require_keys, require_names, require_settings
from .weight_files import DIFFUSION, native_shapes, read_weights

VAE_LEVELS = 4
VAE_SETTINGS = {
    "_class_name": "AutoencoderKL",
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "scaling_factor": LATENT_SCALE,
    "shift_factor": None,
    "latents_mean": None,
    "act_fn": "silu",
    "norm_num_groups": GROUPS,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "mid_block_add_attention": True,
}
OTHER_FAMILIES = {("scaling_factor", "0.13025"): "the VAE of SDXL"}
VAE_NAMES = {
    r"^(encoder|decoder)\.(down|up)_blocks\.(\d+)\.resnets\.": r"\1.\2.\3.block.",
    r"^encoder\.down_blocks\.(\d+)\.downsamplers\.0\.": r"encoder.down.\1.downsample.",
    r"^decoder\.up_blocks\.(\d+)\.upsamplers\.0\.": r"decoder.up.\1.upsample.",
    r"\.mid_block\.resnets\.0\.": r".mid.block_1.",
    r"\.mid_block\.resnets\.1\.": r".mid.block_2.",
    r"\.mid_block\.attentions\.0\.": r".mid.attn_1.",
    r"\.attn_1\.group_norm\.": r".attn_1.norm.",
    r"\.attn_1\.(to_q|query)\.": r".attn_1.q.",
    r"\.attn_1\.(to_k|key)\.": r".attn_1.k.",
    r"\.attn_1\.(to_v|value)\.": r".attn_1.v.",
    r"\.attn_1\.(to_out\.0|proj_attn)\.": r".attn_1.proj_out.",
    r"\.conv_shortcut\.": r".nin_shortcut.",
    r"\.conv_norm_out\.": r".norm_out.",
}


def load_vae(folder: Path) -> comfy.sd.VAE:
    """VAE of the folder's `vae/`: f = 8, 4 channels, latents scaled by 0.18215. Raises ValueError as the other loaders do."""
    params = {"ddconfig": _vae_config(folder / "vae" / "config.json"), "embed_dim": VAE_SETTINGS["latent_channels"]}
    path, weights = read_weights(folder / "vae", DIFFUSION, "a VAE")
    weights = dict(_native_vae_weight(name, tensor) for name, tensor in weights.items())
    with torch.device("meta"):
        require_fit(path, shapes_of(weights), native_shapes(AutoencoderKL(**params)))
    vae = comfy.sd.VAE(sd=weights, config={"params": params})
    vae.patcher.cached_patcher_init = (_vae_patcher, (folder,))
    return vae


def _vae_patcher(folder: Path, disable_dynamic: bool = False) -> Any:
    return load_vae(folder).patcher


def _vae_config(path: Path) -> dict[str, Any]:
    """Native `ddconfig` of an AutoencoderKL's config.json."""
    config = read_config(path)
    require_settings(path, config, VAE_SETTINGS, OTHER_FAMILIES, CHOOSE_SD1)
    require_keys(path, config, "block_out_channels", "layers_per_block")
    widths = level_widths(path, config)
    if isinstance(config["layers_per_block"], list):
        raise ValueError(f"{path}: layers_per_block is {config['layers_per_block']}, which must be one number. {CHOOSE_SD1}")
    if len(widths) != VAE_LEVELS:
        raise ValueError(
            f"{path}: block_out_channels is {widths}, {len(widths)} levels; latents of the SD 1.x family are 1/8 of the picture, which is "
            f"{VAE_LEVELS}. Choose a VAE of SD 1.x."
        )
    require_names(path, "down_block_types", config.get("down_block_types", []), ("DownEncoderBlock2D",), CHOOSE_SD1)
    require_names(path, "up_block_types", config.get("up_block_types", []), ("UpDecoderBlock2D",), CHOOSE_SD1)
    return {
        "double_z": True,
        "z_channels": VAE_SETTINGS["latent_channels"],
        "resolution": 256,
        "in_channels": VAE_SETTINGS["in_channels"],
        "out_ch": VAE_SETTINGS["out_channels"],
        "ch": widths[0],
        "ch_mult": [Multiple(width, widths[0]) for width in widths],
        "num_res_blocks": config["layers_per_block"],
        "attn_resolutions": [],
        "dropout": 0.0,
    }


def _native_vae_weight(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    for pattern, replacement in VAE_NAMES.items():
        name = re.sub(pattern, replacement, name)
    # native counts the decoder's levels from the finest, diffusers from the coarsest
    name = re.sub(r"^decoder\.up\.(\d+)", lambda level: f"decoder.up.{VAE_LEVELS - 1 - int(level[1])}", name)
    if ".attn_1." in name and tensor.ndim == 2:
        tensor = tensor[:, :, None, None]  # a linear layer there, a 1 x 1 convolution here
    return name, tensor
