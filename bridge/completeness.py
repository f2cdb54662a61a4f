"""Whether a single file has all weights of the parts that were loaded from it.

ComfyUI only logs what a file lacks, and leaves those weights as they happen to lie in memory: noise, or another model's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import comfy.diffusers_convert
import comfy.model_detection
import comfy.model_patcher
import comfy.sd
import comfy.utils
from comfy.ldm.models.autoencoder import AutoencoderKL
from torch import Tensor, nn

from .weight_files import native_shapes

COPY_WHOLE = "Copy the whole file again from its source"
NATIVE_UNET = "input_blocks."
VAE_OF_DIFFUSERS = "decoder.up_blocks.0.resnets.0.norm1.weight"
TEXT_OF_OPEN_CLIP = "transformer.resblocks.0.ln_1.weight"
"""By which ComfyUI tells others' names from its own."""
INNER_CONVOLUTIONS = {"decoder.post_quant_conv.": "post_quant_conv.", "encoder.quant_conv.": "quant_conv."}
"""Names of a VAE's that ComfyUI moves."""
SD1_TEXT = "clip_l"
OPTIONAL = "text_projection"
"""Of the text, which no prompt of these models passes."""


def require_whole(
    model: comfy.model_patcher.ModelPatcher, clip: comfy.sd.CLIP | None, vae: comfy.sd.VAE | None, weights: Mapping[str, Tensor]
) -> None:
    """Refuse a checkpoint, or a file of a UNet, that lacks weights of what was loaded from it.

    weights: what the file holds, by its own names; tensors without their numbers will do. Raises ValueError naming the part.
    """
    prefix = comfy.model_detection.unet_prefix_from_state_dict(weights)
    unet: Collection[str] = _under(prefix, weights) or weights
    config = model.model.model_config
    if not any(name.startswith(NATIVE_UNET) for name in unet):
        native = comfy.utils.unet_to_diffusers(config.unet_config)
        unet = {native[name] for name in unet if name in native}
    _require(model.model.diffusion_model, unet, "UNet", f"{COPY_WHOLE}.")
    if vae is not None:
        require_whole_vae(vae, _under("first_stage_model.", weights), f"{COPY_WHOLE}, or choose vae_name.")
    if clip is not None:
        text = _under(f"{SD1_TEXT}.transformer.", config.process_clip_state_dict(dict(weights)))
        require_whole_text_encoder(clip, text, f"{COPY_WHOLE}, or choose a file for its text encoder (image_clip_name, audio_clip_name).")


def require_whole_vae(vae: comfy.sd.VAE, weights: Mapping[str, Tensor], remedy: str) -> None:
    """Refuse a VAE of whose weights its file lacks some; named as ComfyUI or as diffusers names them. Raises ValueError."""
    if isinstance(vae.first_stage_model, AutoencoderKL):
        native = comfy.diffusers_convert.convert_vae_state_dict(weights) if VAE_OF_DIFFUSERS in weights else dict(weights)
        native = comfy.utils.state_dict_prefix_replace(native, INNER_CONVOLUTIONS)
        _require(vae.first_stage_model, native, "VAE", remedy)


def require_whole_text_encoder(clip: comfy.sd.CLIP, weights: Mapping[str, Tensor], remedy: str) -> None:
    """Refuse SD 1.x's text encoder if its file lacks some of the weights; named as transformers or OpenCLIP names them. Raises ValueError.

    Others pass: SD 2.x's is read at its last layer but one, and files of it without the last are in use.
    """
    encoder = clip.cond_stage_model
    if getattr(encoder, "clip", None) == SD1_TEXT:
        open_clip = TEXT_OF_OPEN_CLIP in weights
        native = comfy.utils.clip_text_transformers_convert(dict(weights), "", "") if open_clip else weights
        _require(getattr(encoder, SD1_TEXT).transformer, native, "text encoder", remedy)


def _under(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def _require(module: nn.Module, found: Collection[str], part: str, remedy: str) -> None:
    expected = [name for name in native_shapes(module) if name.endswith((".weight", ".bias")) and not name.startswith(OPTIONAL)]
    missing = [name for name in expected if name not in found]
    if missing:
        raise ValueError(f"It lacks {len(missing)} of the {part}'s {len(expected)} weights, such as {missing[0]}. {remedy}")
