"""One diffusion model of SD 1.x's latent space, from a checkpoint, a UNet alone or a diffusers folder."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import comfy.latent_formats
import comfy.model_detection
import comfy.model_patcher
import comfy.sd
import comfy.supported_models_base
import comfy.utils
import folder_paths
import torch
from torch import Tensor

from ..itsound_core import embedded
from ..itsound_core.latents import LATENT_CHANNELS
from ..itsound_core.weights import shapes_in
from . import completeness, files
from .text_encoder_folder import load_text_encoder
from .unet_folder import load_unet
from .vae_folder import load_vae
from .weight_files import kind_of

WEIGHT_DTYPES: dict[str, dict[str, Any]] = {
    "default": {},
    "fp32": {"dtype": torch.float32},
    "fp16": {"dtype": torch.float16},
    "bf16": {"dtype": torch.bfloat16},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}
WITH_HEADER = (".safetensors", ".sft")


class Loaded(NamedTuple):
    """A model with the text encoder and VAE it brings; None for what it has not, or was not asked for."""

    model: comfy.model_patcher.ModelPatcher
    clip: comfy.sd.CLIP | None
    vae: comfy.sd.VAE | None


def model_names() -> list[str]:
    """What can be chosen as a model: "embedded", then files and folders, each with its key before it."""
    return [
        files.EMBEDDED,
        *(f"{key}/{name}" for key in ("checkpoints", "diffusion_models") for name in files.file_names(key)),
        *(f"diffusers/{name}" for name in files.folder_names("diffusers", files.MODEL_INDEX, files.UNET_CONFIG)),
    ]


def load_color_model(name: str) -> tuple[comfy.model_patcher.ModelPatcher, comfy.sd.CLIP]:
    """A pixel-space model, "embedded" or a folder under models/diffusers, and its text encoder. Raises ValueError as `load_unet` does."""
    folder = files.model_path(name, embedded.COLOR_FOLDER)
    model = load_unet(folder, pixel_space=True)
    text_folder = embedded.IMAGE_FOLDER if name == files.EMBEDDED else folder  # the embedded one reads the image model's prompts
    return model, load_text_encoder(text_folder, folder_paths.get_folder_paths("embeddings"))


def check_file(name: str) -> None:
    """Refuse a file by the names and shapes of its weights, before any are loaded.

    Raises ValueError that says what the file is and what to choose instead.
    """
    key, _, file = name.partition("/")
    if key in ("checkpoints", "diffusion_models"):
        _require_sd1(_detect(Path(folder_paths.get_full_path_or_raise(key, file))))


def load_model(name: str, embedded_folder: Path, options: dict[str, Any], want_clip: bool, want_vae: bool) -> Loaded:
    """The model of a name from `model_names`; `options` are one of WEIGHT_DTYPES.

    Raises ValueError for what cannot be read, is no UNet, has another latent space, or lacks weights.
    """
    path = files.model_path(name, embedded_folder)
    embeddings = folder_paths.get_folder_paths("embeddings")
    if name == files.EMBEDDED or name.startswith("diffusers/"):
        vae_folder = embedded.VAE_FOLDER if name == files.EMBEDDED else path
        model = load_unet(path, options)
        return Loaded(model, load_text_encoder(path, embeddings) if want_clip else None, load_vae(vae_folder) if want_vae else None)
    with nullcontext() if path.suffix.lower() in WITH_HEADER else files.reading(path):  # a file with a header was found whole before
        if name.startswith("checkpoints/"):
            model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(
                str(path), output_vae=want_vae, output_clip=want_clip, embedding_directory=embeddings, model_options=options
            )
            loaded = Loaded(model, clip, vae if vae is not None and vae.first_stage_model is not None else None)
        else:
            loaded = Loaded(comfy.sd.load_diffusion_model(str(path), model_options=options), None, None)
    _require_sd1(loaded.model.model.model_config)
    completeness.require_whole(loaded.model, loaded.clip, loaded.vae, _weights_of(path))
    return loaded


def _weights_of(path: Path) -> dict[str, Tensor]:
    """Tensors by name of a single file, without their numbers: of a header, or of a pickle that is read with weights_only=True."""
    if path.suffix.lower() in WITH_HEADER:
        return {name: torch.empty(shape, device="meta") for name, shape in shapes_in(path).items()}
    with files.reading(path):
        return comfy.utils.load_torch_file(str(path), safe_load=True, device=torch.device("meta"))


def _detect(path: Path) -> comfy.supported_models_base.BASE:
    """What ComfyUI takes a single file for."""
    weights = _weights_of(path)
    if any("time_embed" in name and name.endswith("cond_proj.weight") for name in weights):
        raise ValueError(
            "It takes the guidance scale as an input (LCM), which ComfyUI does not feed. Copy the model's whole folder, as diffusers saves "
            "it, to models/diffusers, or use Stable Diffusion 1.5 with an LCM LoRA."
        )
    prefix = comfy.model_detection.unet_prefix_from_state_dict(weights)
    prefix = prefix if any(name.startswith(prefix) for name in weights) else ""
    config = comfy.model_detection.model_config_from_unet(weights, prefix)
    config = config or comfy.model_detection.model_config_from_diffusers_unet(weights)
    if config is None:
        raise ValueError(
            f"ComfyUI knows no diffusion model with these weights ({kind_of(weights)}). Choose Stable Diffusion 1.5, Auffusion or a "
            "fine-tune of them; of a smaller relative, copy the whole folder, as diffusers saves it, to models/diffusers."
        )
    return config


def _require_sd1(config: comfy.supported_models_base.BASE) -> None:
    """Refuse what ComfyUI can load but cannot share a canvas: another latent space, or a UNet that needs more than latents and text."""
    kind = type(config).__name__
    if not isinstance(config.latent_format, comfy.latent_formats.SD15):
        raise ValueError(
            f"It is a model of the kind {kind}, whose latents ({type(config.latent_format).__name__}) are not SD 1.x's. Both models must "
            "share one latent space: choose Stable Diffusion 1.5, Auffusion or a fine-tune of them."
        )
    if not config.unet_config.get("context_dim"):
        raise ValueError(
            f"It is a model of the kind {kind}, which is no UNet. Load it with ComfyUI's own loaders and connect it to MultimodalKSampler."
        )
    channels = config.unet_config["in_channels"]
    if channels != LATENT_CHANNELS or config.unet_config.get("adm_in_channels"):
        raise ValueError(
            f"It is an inpainting, editing or image-conditioned model ({kind}, {channels} input channels). Choose the plain text-to-image "
            "model it was made from."
        )
