"""Small random Stable Diffusion 1.x UNets: a native MODEL and a diffusers UNet with the same weights."""

from __future__ import annotations

import comfy.model_base
import comfy.model_patcher
import comfy.supported_models
import comfy.utils
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

CONTEXT = 32

UNET_CONFIG = {
    "image_size": 32,
    "use_spatial_transformer": True,
    "legacy": False,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "channel_mult": [1, 2],
    "num_res_blocks": [1, 1],
    "transformer_depth": [0, 1],
    "transformer_depth_output": [0, 0, 1, 1],
    "transformer_depth_middle": 1,
    "use_linear_in_transformer": False,
    "context_dim": CONTEXT,
    "adm_in_channels": None,
    "use_temporal_attention": False,
}


def diffusers_unet(seed: int) -> UNet2DConditionModel:
    """A random float32 UNet of two levels with attention in the lower one."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        cross_attention_dim=CONTEXT,
    )
    return unet.eval().requires_grad_(False)


def native_model(unet: UNet2DConditionModel) -> comfy.model_patcher.ModelPatcher:
    """The same weights as a ComfyUI MODEL."""
    patcher = random_model()
    names = comfy.utils.unet_to_diffusers(UNET_CONFIG)
    patcher.model.diffusion_model.load_state_dict({names[name]: weight.clone() for name, weight in unet.state_dict().items()})
    return patcher


def random_model(model_class: type = comfy.supported_models.SD15, **config) -> comfy.model_patcher.ModelPatcher:
    """A random float32 MODEL on the CPU of any class that ComfyUI supports; `config` changes UNET_CONFIG."""
    model = model_class({**UNET_CONFIG, "dtype": torch.float32, **config}).get_model({})
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def embeddings(seed: int, tokens: int = 7, batch: int = 1) -> torch.Tensor:
    """Random text embeddings (batch, tokens, CONTEXT)."""
    return torch.randn(batch, tokens, CONTEXT, generator=torch.Generator().manual_seed(seed))


def conditioning(seed: int, **options) -> list:
    """CONDITIONING around those embeddings."""
    return [[embeddings(seed), options]]
