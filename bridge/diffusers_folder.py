"""A diffusers folder of the SD 1.x family, at any width, depth and attention placement, as native MODEL, CLIP and VAE.

ComfyUI's own classes are built from the folder's configs, so nothing is guessed from the weights; whatever those classes would compute
differently is refused. Names and numbers are those of diffusers' UNet2DConditionModel and AutoencoderKL and transformers' CLIPTextModel.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import comfy.clip_model
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from torch import Tensor, nn

from ..itsound_core.spectrogram import AUFFUSION
from ..itsound_core.weights import require_fit, shapes_of, unreadable
from .prompt_words import load_tokenizer

MODEL_INDEX, UNET_CONFIG = "model_index.json", "unet/config.json"
DIFFUSION_FILES = tuple(f"diffusion_pytorch_model{variant}" for variant in (".safetensors", ".fp16.safetensors", ".bin", ".fp16.bin"))
TEXT_ENCODER_FILES = ("model.safetensors", "model.fp16.safetensors", "pytorch_model.bin", "pytorch_model.fp16.bin")
HALLMARKS = {
    "a UNet": "time_embedding.linear_1.weight",
    "a VAE": "decoder.conv_in.weight",
    "a text encoder": "embeddings.token_embedding.weight",
    "a T5 text encoder": "relative_attention_bias.weight",
    "a single-file checkpoint": "model.diffusion_model.input_blocks.0.0.weight",
    "a LoRA": "lora_up.weight",
}

GUIDANCE_PROJECTION = "time_embedding.cond_proj.weight"
LCM_GUIDANCE = 8.5
"""The guidance scale that a latent consistency model is told: the default of diffusers' LatentConsistencyModelPipeline."""

GROUPS = 32
VAE_LEVELS = 4
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
VAE_SETTINGS = {
    "_class_name": "AutoencoderKL",
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "scaling_factor": 0.18215,
    "shift_factor": None,
    "latents_mean": None,
    "act_fn": "silu",
    "norm_num_groups": GROUPS,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "mid_block_add_attention": True,
}
TEXT_ENCODER_SETTINGS = {"model_type": "clip_text_model", "layer_norm_eps": 1e-5}
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
    ("scaling_factor", "0.13025"): "the VAE of SDXL",
}
BETA_SCHEDULES = {"scaled_linear": "linear", "linear": "sqrt_linear", "squaredcos_cap_v2": "squaredcos_cap_v2"}
PREDICTION_TYPES = {"epsilon": comfy.model_base.ModelType.EPS, "v_prediction": comfy.model_base.ModelType.V_PREDICTION}
MID_BLOCKS = {"UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None}
logger = logging.getLogger(__name__)

CHOOSE_SD1 = "Choose an SD 1.x text-to-image model."
CHOOSE_PIXELS = "Choose a UNet of three channels; a latent model goes to FactorizedColorize with its VAE, from its own loader."


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


class Multiple(Fraction):
    """A level's width as a multiple of the first level's. Native code multiplies it out, which for 96 = 64 x 3/2 must give an int."""

    def __mul__(self, width: int) -> int:
        return int(super().__mul__(width))

    def __rmul__(self, width: int) -> int:
        return self * width


class TextModel(comfy.clip_model.CLIPTextModel):
    """Native CLIP text model with a vocabulary of any size; the stock one has 49 408 tokens."""

    def __init__(self, config: Mapping[str, Any], dtype: torch.dtype, device: torch.device | str, operations: Any) -> None:
        super().__init__(config, dtype, device, operations)
        self.set_input_embeddings(operations.Embedding(config["vocab_size"], config["hidden_size"], dtype=dtype, device=device))


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
    path, weights = read_weights(folder / "unet", DIFFUSION_FILES, "a UNet")
    weights = _fold_guidance(weights)

    load_device = management.get_torch_device()
    dtype = model_options.get("dtype") or management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(weights),
        supported_dtypes=model_config.supported_inference_dtypes,
        weight_dtype=comfy.utils.weight_dtype(weights),
    )
    model_config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, load_device, model_config.supported_inference_dtypes))
    model_config.optimizations["fp8"] = model_options.get("fp8_optimizations", False)

    native_names = comfy.utils.unet_to_diffusers(model_config.unet_config)
    weights = {native_names.get(name, name): tensor for name, tensor in weights.items()}
    model = model_config.get_model(weights)
    require_fit(path, shapes_of(weights), native_shapes(model.diffusion_model))

    patcher_class = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = patcher_class(model, load_device=load_device, offload_device=management.unet_offload_device())
    model.to(patcher.offload_device)
    model.load_model_weights(weights, assign=patcher.is_dynamic())
    patcher.cached_patcher_init = (partial(load_unet, pixel_space=pixel_space), (folder, model_options))
    return patcher


def load_text_encoder(folder: Path, embedding_directory: list[str] | None = None, disable_dynamic: bool = False) -> comfy.sd.CLIP:
    """CLIP of the folder's `text_encoder/` and `tokenizer/`: the last layer with its final norm, weights in the file's own precision.

    ComfyUI's default would round a float32 file to float16 (2e-3 relative on the embeddings), to save 250 MB at SD 1.5's size. Raises
    ValueError naming the file, what is wrong with it and what to do.
    """
    config = _text_config(folder / "text_encoder" / "config.json")
    tokenizer = load_tokenizer(folder / "tokenizer", config["max_position_embeddings"], config["hidden_size"], embedding_directory)
    if max(tokenizer.inv_vocab) >= config["vocab_size"]:
        raise ValueError(
            f"{folder / 'tokenizer'} has {max(tokenizer.inv_vocab) + 1} tokens, the text encoder beside it {config['vocab_size']}. "
            "Both must come from the same model."
        )
    path, weights = read_weights(folder / "text_encoder", TEXT_ENCODER_FILES, "a text encoder")
    weights = {native_text_name(name): tensor for name, tensor in weights.items() if not name.endswith("position_ids")}
    require_fit(path, shapes_of(weights), native_shapes(TextModel(config, torch.float32, "meta", nn)), optional={"text_projection.weight"})

    encoder = partial(
        comfy.sd1_clip.SDClipModel,
        max_length=config["max_position_embeddings"],
        textmodel_json_config=config,
        model_class=TextModel,
        special_tokens={"start": tokenizer.start_token, "end": tokenizer.end_token, "pad": tokenizer.pad_token},
        return_projected_pooled=False,
    )
    clip = comfy.sd.CLIP(
        comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel),
        tokenizer_data={"clip_l_tokenizer_class": lambda **options: tokenizer},
        parameters=comfy.utils.calculate_parameters(weights),
        state_dict=[{"text_projection.weight": torch.eye(config["hidden_size"])} | weights],
        model_options={"clip_l_class": encoder, "dtype": comfy.utils.weight_dtype(weights)},
        disable_dynamic=disable_dynamic,
    )
    clip.patcher.cached_patcher_init = (_text_encoder_patcher, (folder, embedding_directory))
    return clip


def load_vae(folder: Path) -> comfy.sd.VAE:
    """VAE of the folder's `vae/`: f = 8, 4 channels, latents scaled by 0.18215. Raises ValueError as the other loaders do."""
    params = {"ddconfig": _vae_config(folder / "vae" / "config.json"), "embed_dim": VAE_SETTINGS["latent_channels"]}
    path, weights = read_weights(folder / "vae", DIFFUSION_FILES, "a VAE")
    weights = dict(_native_vae_weight(name, tensor) for name, tensor in weights.items())
    with torch.device("meta"):
        require_fit(path, shapes_of(weights), native_shapes(AutoencoderKL(**params)))
    vae = comfy.sd.VAE(sd=weights, config={"params": params})
    vae.patcher.cached_patcher_init = (_vae_patcher, (folder,))
    return vae


def _text_encoder_patcher(folder: Path, embedding_directory: list[str] | None, disable_dynamic: bool = False) -> Any:
    return load_text_encoder(folder, embedding_directory, disable_dynamic).patcher


def _vae_patcher(folder: Path, disable_dynamic: bool = False) -> Any:
    return load_vae(folder).patcher


# Configs -----------------------------------------------------------------------------------------------------------------------------


def read_json(path: Path) -> dict[str, Any]:
    """A model's JSON file. Raises ValueError with a remedy where it is missing or broken."""
    if not path.is_file():
        raise ValueError(f"{path} is missing. Copy the model's whole folder, as diffusers saves it.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}). Copy it again from the model's source.") from error


def _read_config(path: Path, settings: Mapping[str, Any], required: Sequence[str], remedy: str = CHOOSE_SD1) -> dict[str, Any]:
    """The config at `path`, with every setting that the native classes fix at the value they implement (and diffusers defaults to)."""
    config = read_json(path)
    for key, native in settings.items():
        found = config.get(key, native)
        if found != native:
            family = OTHER_FAMILIES.get((key, str(found)), "not of the SD 1.x family")
            raise ValueError(f"{path} is {family}: {key} is {found!r} instead of {native!r}. {remedy}")
    absent = [key for key in required if key not in config]
    if absent:
        raise ValueError(f"{path} lacks {', '.join(absent)}. Copy it again from the model's source.")
    return config


def _require_widths(path: Path, widths: Sequence[int]) -> None:
    if any(width % GROUPS for width in widths):
        raise ValueError(
            f"{path}: block_out_channels is {list(widths)}; ComfyUI normalises in {GROUPS} groups, so every width must be a multiple of "
            f"{GROUPS}. Choose another model."
        )


def _require_types(path: Path, key: str, types: Sequence[Any], known: set[Any]) -> None:
    unknown = [kind for kind in types if kind not in known]
    if unknown:
        raise ValueError(f"{path}: {key} names {unknown[0]!r}; native are {', '.join(sorted(map(repr, known)))}. Choose an SD 1.x model.")


def _per_level(value: Any, levels: int) -> list[int]:
    return list(value) if isinstance(value, (list, tuple)) else [value] * levels


def _unet_config(path: Path, pixel_space: bool) -> dict[str, Any]:
    """Native `unet_config` of a UNet2DConditionModel's config.json."""
    required = ("block_out_channels", "down_block_types", "up_block_types", "cross_attention_dim")
    settings = PIXEL_SETTINGS if pixel_space else UNET_SETTINGS
    config = _read_config(path, settings, required, CHOOSE_PIXELS if pixel_space else CHOOSE_SD1)
    widths, mid = config["block_out_channels"], config.get("mid_block_type", "UNetMidBlock2DCrossAttn")
    levels = len(widths)
    _require_widths(path, widths)
    _require_types(path, "down_block_types", config["down_block_types"], {"CrossAttnDownBlock2D", "DownBlock2D"})
    _require_types(path, "up_block_types", config["up_block_types"], {"CrossAttnUpBlock2D", "UpBlock2D"})
    _require_types(path, "mid_block_type", [mid], MID_BLOCKS)

    layers = _per_level(config.get("layers_per_block", 2), levels)
    if len(set(layers)) != 1:
        raise ValueError(f"{path}: layers_per_block is {layers}; ComfyUI names weights by one number for all levels. Choose another model.")
    depths = _per_level(config.get("transformer_layers_per_block", 1), levels)
    down = [depth * kind.startswith("CrossAttn") for depth, kind in zip(depths, config["down_block_types"], strict=True)]
    up = [depth * kind.startswith("CrossAttn") for depth, kind in zip(depths, reversed(config["up_block_types"]), strict=True)]
    return {
        "image_size": _per_level(config.get("sample_size") or 32, 1)[0],
        "in_channels": settings["in_channels"],
        "out_channels": settings["out_channels"],
        "model_channels": widths[0],
        "channel_mult": [Multiple(width, widths[0]) for width in widths],
        "num_res_blocks": layers,
        "transformer_depth": [depth for depth, count in zip(down, layers, strict=True) for _ in range(count)],
        "transformer_depth_output": [depth for depth, count in zip(up, layers, strict=True) for _ in range(count + 1)],
        # native: -1 is a single residual block, -2 no middle block at all
        "transformer_depth_middle": {"UNetMidBlock2DCrossAttn": depths[-1], "UNetMidBlock2D": -1, None: -2}[mid],
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
    heads = _per_level(config.get("attention_head_dim", 8), len(widths))
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


def _scheduler_config(folder: Path) -> dict[str, Any]:
    path = folder / "scheduler" / "scheduler_config.json"
    config = _read_config(path, SCHEDULER_SETTINGS, ("beta_schedule", "beta_start", "beta_end"))
    _require_types(path, "beta_schedule", [config["beta_schedule"]], set(BETA_SCHEDULES))
    _require_types(path, "prediction_type", [config.get("prediction_type", "epsilon")], set(PREDICTION_TYPES))
    return config


def _vae_config(path: Path) -> dict[str, Any]:
    """Native `ddconfig` of an AutoencoderKL's config.json."""
    config = _read_config(path, VAE_SETTINGS, ("block_out_channels", "layers_per_block"))
    widths = config["block_out_channels"]
    _require_widths(path, widths)
    if len(widths) != VAE_LEVELS:
        raise ValueError(
            f"{path}: block_out_channels is {widths}, {len(widths)} levels; latents of the SD 1.x family are 1/8 of the picture, which is "
            f"{VAE_LEVELS}. Choose a VAE of SD 1.x."
        )
    _require_types(path, "down_block_types", config.get("down_block_types", []), {"DownEncoderBlock2D"})
    _require_types(path, "up_block_types", config.get("up_block_types", []), {"UpDecoderBlock2D"})
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


def _text_config(path: Path) -> dict[str, Any]:
    required = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
    config = _read_config(path, TEXT_ENCODER_SETTINGS, required)
    activation = config.setdefault("hidden_act", "quick_gelu")
    _require_types(path, "hidden_act", [activation], set(comfy.clip_model.ACTIVATIONS))
    config.setdefault("eos_token_id", 2)  # native code wants the key; the tokenizer says which token ends a prompt
    return config


# Weights -----------------------------------------------------------------------------------------------------------------------------


def read_weights(folder: Path, names: Sequence[str], kind: str) -> tuple[Path, dict[str, Tensor]]:
    """Path and tensors of the first of `names` in the folder; ValueError where there is none, or it cannot be read or is not of `kind`."""
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise ValueError(f"{folder} has none of {', '.join(names)}. Copy the model's whole folder, as diffusers saves it.")
    try:
        weights = comfy.utils.load_torch_file(str(path), safe_load=True)
        found = kind_of(weights)
    except Exception as error:
        raise unreadable(path, error) from error
    if found != kind:
        raise ValueError(f"{path} should hold {kind}, but holds {found}. Put the right file there.")
    return path, weights


def kind_of(names: Collection[str]) -> str:
    """What a file holds, judged by the names of its weights: "a UNet", "a VAE", ..., "something else"."""
    return next((label for label, ending in HALLMARKS.items() if any(name.endswith(ending) for name in names)), "something else")


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


def native_text_name(name: str) -> str:
    """transformers 5 saves a text model's weights without the prefix that all before it wrote."""
    return name if name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}"


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


def _native_vae_weight(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    for pattern, replacement in VAE_NAMES.items():
        name = re.sub(pattern, replacement, name)
    # native counts the decoder's levels from the finest, diffusers from the coarsest
    name = re.sub(r"^decoder\.up\.(\d+)", lambda level: f"decoder.up.{VAE_LEVELS - 1 - int(level[1])}", name)
    if ".attn_1." in name and tensor.ndim == 2:
        tensor = tensor[:, :, None, None]  # a linear layer there, a 1 x 1 convolution here
    return name, tensor
