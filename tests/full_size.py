"""Stable Diffusion 1.5, its smaller relatives and a vocoder at full size with seeded random weights, in the layouts that people have.

The single-file checkpoint comes first, in its authors' names; diffusers itself converts it into the folder. Weights are as spread as a new
layer's, norms and biases are not left at 1 and 0, so that no two tensors could be exchanged unnoticed.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.sd1_clip
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL as NativeVAE
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from diffusers_folders import SD_SCHEDULE
from model_files import unet_shapes
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, SpeechT5HifiGan, SpeechT5HifiGanConfig

from itsound_core.weights import shapes_of

UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
}
BK_SDM = UNET | {"layers_per_block": 1, "mid_block_type": None}
RELATIVES = {
    "bk-sdm-small": BK_SDM,
    "bk-sdm-tiny": BK_SDM
    | {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3,
        "up_block_types": ("CrossAttnUpBlock2D",) * 3,
    },
    "lcm": UNET | {"time_cond_proj_dim": 256},
}
PARAMETERS = {"sd15": 859_520_964, "bk-sdm-small": 482_346_884, "bk-sdm-tiny": 323_384_964}
"""UNet parameters of the published models."""

VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}
NATIVE_VAE = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}
TEXT_ENCODER = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
VOCODER = {
    "resblock": "1",
    "upsample_rates": [10, 4, 2, 2],
    "upsample_kernel_sizes": [20, 8, 4, 4],
    "upsample_initial_channel": 512,
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    "num_mels": 256,
}
"""HiFi-GAN V1 with rates that multiply to 160. The published config of Auffusion's was not seen."""

UNET_PREFIX, VAE_PREFIX, TEXT_PREFIX = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."
TOKENIZER = Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer"


def random_weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """float16 weights: matrices with the spread of torch's default initialisation, norms around 1, biases around 0."""
    generator = torch.Generator().manual_seed(seed)

    def draw(name: str, shape: tuple[int, ...]) -> Tensor:
        noise = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            return noise / math.sqrt(3 * math.prod(shape[1:]))
        return 0.1 * noise + (1.0 if name.endswith("weight") else 0.0)

    return {name: draw(name, shape).half() for name, shape in shapes.items()}


def on_meta(model_class: type[nn.Module], *args: Any, **config: Any) -> nn.Module:
    with torch.device("meta"):
        return model_class(*args, **config)


def text_model() -> nn.Module:
    return CLIPTextModel(CLIPTextConfig(**TEXT_ENCODER))  # not on meta: it has a buffer that is in no state dict


def with_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    model.load_state_dict(weights, assign=True)
    return model.eval()


def write_checkpoint(path: Path, seed: int = 0) -> None:
    """One file as Stable Diffusion v1.5 was published in: UNet, VAE and text encoder."""
    parts = {
        UNET_PREFIX: unet_shapes(),
        VAE_PREFIX: shapes_of(on_meta(NativeVAE, ddconfig=NATIVE_VAE, embed_dim=4).state_dict()),
        TEXT_PREFIX: {name.removeprefix("text_model."): shape for name, shape in shapes_of(text_model().state_dict()).items()},
    }
    save_file(random_weights({prefix + name: shape for prefix, shapes in parts.items() for name, shape in shapes.items()}, seed), path)


def part(checkpoint: Path, prefix: str) -> dict[str, Tensor]:
    """The weights under a prefix of a checkpoint's names."""
    return {name.removeprefix(prefix): weight for name, weight in load_file(checkpoint).items() if name.startswith(prefix)}


def from_checkpoint(checkpoint: Path, configs: Path, name: str) -> nn.Module:
    """float32 "unet", "vae" or "text_encoder" of a checkpoint as diffusers and transformers read it."""
    if name == "text_encoder":
        model = text_model()
        prefix = "text_model." if next(iter(model.state_dict())).startswith("text_model.") else ""
        return with_weights(model, {prefix + key: weight for key, weight in part(checkpoint, TEXT_PREFIX).items()}).float()
    reader: Any = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}[name]
    return reader.from_single_file(
        str(checkpoint), config=str(configs), subfolder=name, torch_dtype=torch.float32, local_files_only=True
    ).eval()


def write_configs(folder: Path, unet: Mapping[str, Any] = UNET) -> None:
    """All of a diffusers folder but its weights."""
    on_meta(UNet2DConditionModel, **unet).save_config(folder / "unet")
    on_meta(AutoencoderKL, **VAE).save_config(folder / "vae")
    CLIPTextConfig(**TEXT_ENCODER).save_pretrained(folder / "text_encoder")
    PNDMScheduler(**{key: value for key, value in SD_SCHEDULE.items() if key != "clip_sample"}).save_pretrained(folder / "scheduler")
    shutil.copytree(TOKENIZER, folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))


def write_relative(folder: Path, like: Path, name: str, seed: int = 1) -> UNet2DConditionModel:
    """The folder of a relative: a UNet of its own, all else hard-linked from `like`. Returns the UNet in float16."""
    shutil.copytree(like, folder, copy_function=os.link, ignore=shutil.ignore_patterns("unet"))
    unet: Any = on_meta(UNet2DConditionModel, **RELATIVES[name])
    unet = with_weights(unet, random_weights(shapes_of(unet.state_dict()), seed))
    unet.save_pretrained(folder / "unet")
    return unet


def write_vocoder(folder: Path, seed: int = 0) -> SpeechT5HifiGan:
    """`config.json` and `vocoder.pt` with weight-norm pairs, as Auffusion's are; transformers' HiFi-GAN with the same weights."""
    names = ("upsample_rates", "upsample_kernel_sizes", "upsample_initial_channel", "resblock_kernel_sizes", "resblock_dilation_sizes")
    config = SpeechT5HifiGanConfig(model_in_dim=VOCODER["num_mels"], normalize_before=False, **{name: VOCODER[name] for name in names})
    torch.manual_seed(seed)
    reference = SpeechT5HifiGan(config).eval()
    for layer in [layer for layer in reference.modules() if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d))]:
        nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.weight[0].numel()))
        nn.init.normal_(layer.bias, std=0.1)
        nn.utils.weight_norm(layer)
        layer.weight_g.data *= 1 + 0.1 * torch.randn_like(layer.weight_g)
    weights = {
        name.replace("upsampler.", "ups."): weight for name, weight in reference.state_dict().items() if name not in ("mean", "scale")
    }
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(VOCODER))
    torch.save({"generator": weights}, folder / "vocoder.pt")
    return reference
