"""The canvas of a score distillation and the parts of a VAE that lie between it and the models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import comfy.ldm.models.autoencoder
import comfy.model_management
import comfy.sd
import torch
from torch import Tensor, nn

from ..itsound_core.canvas import FourierCanvas, LatentParameters
from ..itsound_core.sds import Renderer, full_canvas, latents_by
from .model_configs import Multiple


@dataclass(frozen=True)
class Parameterization:
    """What is optimised, what a model of latents is given of it, and what makes it the picture (1, 1, H, W) in 0..1."""

    canvas: nn.Module
    latents: Renderer
    decode: Callable[[Tensor], Tensor]


def network_parameterization(canvas: FourierCanvas, vae: comfy.sd.VAE, scale: float, device: torch.device) -> Parameterization:
    """The paper's: a picture, seen by models of latents through the VAE's encoder. scale: from the VAE's latents to the models'."""
    encode = vae_parts(vae, device, "encoder", "quant_conv")
    return Parameterization(canvas.to(device), latents_by(encode, scale), lambda picture: picture)


def latent_parameterization(canvas: LatentParameters, vae: comfy.sd.VAE, scale: float, device: torch.device) -> Parameterization:
    """Latents in the models' scale; the VAE's decoder only shows them."""
    decode = vae_parts(vae, device, "post_quant_conv", "decoder")

    def picture(latents: Tensor) -> Tensor:
        return (decode(latents / scale).mean(dim=1, keepdim=True) / 2 + 0.5).clamp(0.0, 1.0)

    return Parameterization(canvas.to(device), full_canvas, picture)


def vae_parts(vae: comfy.sd.VAE, device: torch.device, *names: str) -> Callable[[Tensor], Tensor]:
    """Parts of an SD 1.x VAE in a row, float32 in and out, with gradients: built anew from its weights, none of its modules is touched.

    What ComfyUI has loaded is not for gradients, and its layers may hold handles to memory that a copy of them would free. They compute in
    bfloat16 where ComfyUI lets the VAE do so, else in float32: float16's gradients would underflow. Call it outside of inference mode.
    Raises ValueError where the weights are not those of such a VAE.
    """
    weights, dtype = vae.get_sd(), torch.bfloat16 if vae.vae_dtype == torch.bfloat16 else torch.float32
    with torch.device("meta"):
        model = comfy.ldm.models.autoencoder.AutoencoderKL(
            ddconfig=_config(weights, "encoder.down"),
            decoder_ddconfig=_config(weights, "decoder.up"),
            embed_dim=weights["post_quant_conv.weight"].shape[1],
        )
    parts = nn.Sequential(*(getattr(model, name) for name in names))
    needed = {
        f"{index}.{name.removeprefix(f'{part}.')}": tensor
        for index, part in enumerate(names)
        for name, tensor in weights.items()
        if name.startswith(f"{part}.")
    }
    comfy.model_management.free_memory(dtype.itemsize * sum(tensor.numel() for tensor in needed.values()), device)
    copies = {name: tensor.detach().to(device, dtype, copy=True) for name, tensor in needed.items()}
    try:
        parts.load_state_dict(copies, assign=True)
    except RuntimeError as error:
        raise ValueError("its weights are not those of a VAE of Stable Diffusion 1.x") from error
    parts.eval().requires_grad_(False)
    return lambda tensor: parts(tensor.to(dtype)).float()


def _config(weights: Mapping[str, Tensor], levels: str) -> dict:
    """Native `ddconfig` of an encoder's or a decoder's weights: widths and number of blocks as the names and shapes say."""
    widths: list[int] = []
    while (block := f"{levels}.{len(widths)}.block.0.conv1.weight") in weights:
        widths.append(weights[block].shape[0])
    blocks = sum(name.startswith(f"{levels}.0.block.") and name.endswith(".conv1.weight") for name in weights)
    return {
        "double_z": True,
        "z_channels": weights["decoder.conv_in.weight"].shape[1],
        "resolution": 256,
        "in_channels": weights["encoder.conv_in.weight"].shape[1],
        "out_ch": weights["decoder.conv_out.weight"].shape[0],
        "ch": widths[0],
        "ch_mult": [Multiple(width, widths[0]) for width in widths],
        "num_res_blocks": blocks - (levels == "decoder.up"),  # a decoder's level has one more
        "attn_resolutions": [],
        "dropout": 0.0,
    }
