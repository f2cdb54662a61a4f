"""The `unet/` and `scheduler/` of a diffusers folder as a native MODEL: an SD 1.x UNet of any width, depth and attention placement.

ComfyUI's own class is built from the folder's configs, so nothing is guessed from the weights; whatever that class would compute
differently is refused. Names and numbers are those of diffusers' UNet2DConditionModel.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import comfy.utils
import torch
from torch import Tensor

from ..itsound_core.spectrogram import AUFFUSION
from ..itsound_core.weights import require_fit, shapes_of
from .model_configs import (
    CHOOSE_SD1,
    GROUPS,
    Multiple,
    by_level,
    level_widths,
    read_config,
    require_keys,
    require_names,
    require_settings,
    share,
)
from .weight_files import DIFFUSION, native_shapes, read_weights

GUIDANCE_PROJECTION = "time_embedding.cond_proj.weight"
LCM_GUIDANCE = 8.5
"""The guidance scale that a latent consistency model is told: the default of diffusers' LatentConsistencyModelPipeline."""

UNET_SETTINGS = {
    "_class_name": "UNet2DConditionModel",
    "addition_embed_type": None,
    "in_channels": 4,
    "out_channels": 4,
    "class_embed_type": None,
    "num_class_embeds": None,
    "encoder_hid_dim": None,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "time_embedding_act_fn": None,
    "timestep_post_act": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "center_input_sample": False,
    "act_fn": "silu",
    "norm_num_groups": GROUPS,
    "norm_eps": 1e-5,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "resnet_time_scale_shift": "default",
    "resnet_skip_time_act": False,
    "resnet_out_scale_factor": 1.0,
    "attention_type": "default",
    "num_attention_heads": None,
    "only_cross_attention": False,
    "mid_block_only_cross_attention": None,
    "dual_cross_attention": False,
    "cross_attention_norm": None,
    "reverse_transformer_layers_per_block": None,
}
SCHEDULER_SETTINGS = {"num_train_timesteps": 1000, "trained_betas": None}
PIXEL_SETTINGS = UNET_SETTINGS | {"in_channels": 3, "out_channels": 3}
OTHER_FAMILIES = {
    ("addition_embed_type", "text"): "a stage of DeepFloyd IF (which LoadDeepFloydIF loads)",
    ("addition_embed_type", "text_time"): "an SDXL model",
    ("in_channels", "3"): "a pixel-space model",
    ("in_channels", "4"): "a latent-space model",
    ("in_channels", "9"): "an inpainting model",
    ("in_channels", "8"): "an image-editing model",
    ("_class_name", "UNet3DConditionModel"): "a video model",
}
BETA_SCHEDULES = {"scaled_linear": "linear", "linear": "sqrt_linear", "squaredcos_cap_v2": "squaredcos_cap_v2"}
PREDICTION_TYPES = {"epsilon": comfy.model_base.ModelType.EPS, "v_prediction": comfy.model_base.ModelType.V_PREDICTION}
MIDDLE_DEPTHS = {"UNetMidBlock2D": -1, None: -2}
"""Native `transformer_depth_middle`: -1 is a single residual block, -2 no middle block at all."""
CROSS_ATTENTION_MIDDLE = "UNetMidBlock2DCrossAttn"

CHOOSE_PIXELS = "Choose a UNet of three channels; a latent model goes to FactorizedColorize with its VAE, from its own loader."

logger = logging.getLogger(__name__)


class Pixels(comfy.latent_formats.ChromaRadiance):
    """Pictures in -1..1, no VAE, at 1 / spacial_downscale_ratio of the canvas' size."""

    def __init__(self, rows: int):
        super().__init__()
        self.spacial_downscale_ratio = max(1, AUFFUSION.n_mels // rows)


class SD1Family(comfy.supported_models.SD15):
    """SD 1.5's native configuration with the shape, attention heads and noise schedule of a diffusers folder."""

    unet_extra_config: dict[str, Any] = {}

    def __init__(self, unet_config: dict[str, Any], scheduler: Mapping[str, Any]) -> None:
        super().__init__(unet_config)
        if unet_config["in_channels"] == PIXEL_SETTINGS["in_channels"]:
            self.latent_format = Pixels(unet_config["image_size"])
        self.prediction_type = PREDICTION_TYPES[scheduler.get("prediction_type", "epsilon")]
        self.sampling_settings = {
            "beta_schedule": BETA_SCHEDULES[scheduler["beta_schedule"]],
            "linear_start": scheduler["beta_start"],
            "linear_end": scheduler["beta_end"],
            "zsnr": scheduler.get("rescale_betas_zero_snr", False),
        }

    def model_type(self, state_dict: Mapping[str, Tensor], prefix: str = "") -> comfy.model_base.ModelType:
        return self.prediction_type


def load_unet(
    folder: Path, model_options: Mapping[str, Any] | None = None, disable_dynamic: bool = False, pixel_space: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """MODEL of the folder's `unet/` with the noise schedule of its `scheduler/`.

    With `pixel_space` the UNet must have three channels, and its config's sample_size is the number of rows it was trained on.
    `model_options` are those of `comfy.sd.load_diffusion_model`: dtype and fp8_optimizations. Raises ValueError naming the file, what is
    wrong with it and what to do.
    """
    management = comfy.model_management
    model_options = model_options or {}
    model_config = SD1Family(_unet_config(folder / "unet" / "config.json", pixel_space), _scheduler_config(folder))
    path, weights = read_weights(folder / "unet", DIFFUSION, "a UNet")
    weights = _fold_guidance(weights)
    native_names = comfy.utils.unet_to_diffusers(model_config.unet_config)
    weights = {native_names.get(name, name): tensor for name, tensor in weights.items()}
    with torch.device("meta"):  # what a config of another size describes need not fit into memory
        require_fit(path, shapes_of(weights), native_shapes(model_config.get_model(weights).diffusion_model))

    load_device = management.get_torch_device()
    dtype = model_options.get("dtype") or management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(weights),
        supported_dtypes=model_config.supported_inference_dtypes,
        weight_dtype=comfy.utils.weight_dtype(weights),
    )
    model_config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, load_device, model_config.supported_inference_dtypes))
    model_config.optimizations["fp8"] = model_options.get("fp8_optimizations", False)

    model = model_config.get_model(weights)

    patcher_class = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = patcher_class(model, load_device=load_device, offload_device=management.unet_offload_device())
    model.to(patcher.offload_device)
    model.load_model_weights(weights, assign=patcher.is_dynamic())
    patcher.cached_patcher_init = (partial(load_unet, pixel_space=pixel_space), (folder, model_options))
    return patcher


def _unet_config(path: Path, pixel_space: bool) -> dict[str, Any]:
    """Native `unet_config` of a UNet2DConditionModel's config.json."""
    settings, remedy = (PIXEL_SETTINGS, CHOOSE_PIXELS) if pixel_space else (UNET_SETTINGS, CHOOSE_SD1)
    config = read_config(path)
    require_settings(path, config, settings, OTHER_FAMILIES, remedy)
    require_keys(path, config, "block_out_channels", "down_block_types", "up_block_types", "cross_attention_dim")
    widths, mid = level_widths(path, config), config.get("mid_block_type", CROSS_ATTENTION_MIDDLE)
    levels = len(widths)
    for key, known in (
        ("down_block_types", ("CrossAttnDownBlock2D", "DownBlock2D")),
        ("up_block_types", ("CrossAttnUpBlock2D", "UpBlock2D")),
    ):
        require_names(path, key, config[key], known, CHOOSE_SD1)
        by_level(path, key, config[key], levels)
    require_names(path, "mid_block_type", [mid], (CROSS_ATTENTION_MIDDLE, *MIDDLE_DEPTHS), CHOOSE_SD1)

    layers = by_level(path, "layers_per_block", _given(config, "layers_per_block", 2), levels)
    if len(set(layers)) != 1:
        raise ValueError(f"{path}: layers_per_block is {layers}; ComfyUI names weights by one number for all levels. Choose another model.")
    depths = by_level(path, "transformer_layers_per_block", _given(config, "transformer_layers_per_block", 1), levels)
    down = [depth * kind.startswith("CrossAttn") for depth, kind in zip(depths, config["down_block_types"], strict=True)]
    up = [depth * kind.startswith("CrossAttn") for depth, kind in zip(depths, reversed(config["up_block_types"]), strict=True)]
    size = _given(config, "sample_size", 32)
    return {
        "image_size": size[0] if isinstance(size, list) else size,
        "in_channels": settings["in_channels"],
        "out_channels": settings["out_channels"],
        "model_channels": widths[0],
        "channel_mult": [Multiple(width, widths[0]) for width in widths],
        "num_res_blocks": layers,
        "transformer_depth": [depth for depth, count in zip(down, layers, strict=True) for _ in range(count)],
        "transformer_depth_output": [depth for depth, count in zip(up, layers, strict=True) for _ in range(count + 1)],
        "transformer_depth_middle": MIDDLE_DEPTHS.get(mid, depths[-1]),
        "use_spatial_transformer": True,
        "use_linear_in_transformer": config.get("use_linear_projection", False),
        "attn_precision": torch.float32 if config.get("upcast_attention") else None,
        "context_dim": config["cross_attention_dim"],
        "adm_in_channels": None,
        "use_temporal_attention": False,
        "legacy": False,
        **_attention_heads(path, config),
    }


def _attention_heads(path: Path, config: Mapping[str, Any]) -> dict[str, int]:
    """Native code knows one number of heads or one width of a head for the whole UNet. Diffusers' `attention_head_dim` is the *number*."""
    widths = config["block_out_channels"]
    heads = by_level(path, "attention_head_dim", _given(config, "attention_head_dim", 8), len(widths))
    if any(width % number for width, number in zip(widths, heads, strict=True)):
        raise ValueError(f"{path}: attention_head_dim {heads} (numbers of heads) does not divide block_out_channels {widths}.")
    if len(set(heads)) == 1:
        return {"num_heads": heads[0], "num_head_channels": -1}
    head_widths = {width // number for width, number in zip(widths, heads, strict=True)}
    if len(head_widths) == 1:
        return {"num_heads": -1, "num_head_channels": head_widths.pop()}
    raise ValueError(
        f"{path}: attention_head_dim {heads} at block_out_channels {widths} gives neither one number of heads nor one width of a head. "
        "ComfyUI's UNet needs one of them. Choose another model."
    )


def _given(config: Mapping[str, Any], key: str, default: Any) -> Any:
    """Diffusers writes null for a size that is left to its default."""
    return default if config.get(key) is None else config[key]


def _scheduler_config(folder: Path) -> dict[str, Any]:
    path = folder / "scheduler" / "scheduler_config.json"
    config = read_config(path)
    require_settings(path, config, SCHEDULER_SETTINGS, OTHER_FAMILIES, CHOOSE_SD1)
    require_keys(path, config, "beta_schedule", "beta_start", "beta_end")
    require_names(path, "beta_schedule", [config["beta_schedule"]], BETA_SCHEDULES, CHOOSE_SD1)
    require_names(path, "prediction_type", [config.get("prediction_type", "epsilon")], PREDICTION_TYPES, CHOOSE_SD1)
    for key in ("beta_start", "beta_end"):
        share(path, config, key)
    return config


def _fold_guidance(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A latent consistency model (LCM) told LCM_GUIDANCE once and for all; any other model as it is.

    LCM adds a projection of the guidance scale's embedding to the timestep's (Luo et al., arXiv 2310.04378). For one scale that is a
    constant, and the bias of the linear layer behind it takes it up exactly.
    """
    if GUIDANCE_PROJECTION not in weights:
        return weights
    logger.info("This model takes its guidance scale as an input (LCM) and is told %g: set its cfg to 1.", LCM_GUIDANCE)
    folded = dict(weights)
    projection, first = folded.pop(GUIDANCE_PROJECTION).float(), "time_embedding.linear_1"
    half = projection.shape[1] // 2
    angles = 1000.0 * (LCM_GUIDANCE - 1.0) * torch.exp(torch.arange(half) * (-math.log(10000.0) / (half - 1)))
    constant = weights[f"{first}.weight"].float() @ (projection @ torch.cat([angles.sin(), angles.cos()]))
    folded[f"{first}.bias"] = (weights[f"{first}.bias"].float() + constant).to(weights[f"{first}.bias"].dtype)
    return folded
