"""Small random DeepFloyd IF stages of diffusers' own classes, and the folders that they are saved as."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from transformers import T5Config, T5EncoderModel

WIDTH = 32
TOKENS = 77
STAGE_2 = {"in_channels": 6, "class_embed_type": "timestep"}


def unet(seed: int = 0, **config) -> UNet2DConditionModel:
    """Stage I's UNet at four levels with attention in the lowest; STAGE_2 makes it stage II's."""
    torch.manual_seed(seed)
    defaults = {
        "sample_size": 16,
        "in_channels": 3,
        "out_channels": 6,
        "layers_per_block": 1,
        "block_out_channels": (32, 32, 32, 64),
        "down_block_types": (*3 * ("ResnetDownsampleBlock2D",), "SimpleCrossAttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("SimpleCrossAttnUpBlock2D", *3 * ("ResnetUpsampleBlock2D",)),
        "cross_attention_dim": WIDTH,
        "encoder_hid_dim": WIDTH,
        "attention_head_dim": 8,
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 2,
        "cross_attention_norm": "group_norm",
        "resnet_time_scale_shift": "scale_shift",
        "act_fn": "gelu",
    }
    return UNet2DConditionModel(**(defaults | config)).eval()


def scheduler(**config) -> DDPMScheduler:
    """IF's published scheduler."""
    defaults = {
        "beta_schedule": "squaredcos_cap_v2",
        "thresholding": True,
        "dynamic_thresholding_ratio": 0.95,
        "sample_max_value": 1.5,
        "prediction_type": "epsilon",
        "variance_type": "learned_range",
    }
    return DDPMScheduler(**(defaults | config))


def noising_scheduler() -> DDPMScheduler:
    return DDPMScheduler(beta_schedule="squaredcos_cap_v2")


def text_encoder(seed: int = 0) -> T5EncoderModel:
    """T5 v1.1 with T5's vocabulary, one layer, 32 wide."""
    torch.manual_seed(seed)
    config = T5Config(d_model=WIDTH, d_ff=64, d_kv=8, num_heads=4, num_layers=1, feed_forward_proj="gated-gelu", vocab_size=32128)
    encoder = T5EncoderModel(config).eval()
    for parameter in encoder.parameters():  # T5's own initial weights are tiny here, and differences would be too
        torch.nn.init.normal_(parameter, std=0.2)
    return encoder


def write_stage_1(folder: Path, with_text_encoder: bool = True) -> T5EncoderModel | None:
    """A stage I folder as diffusers saves it, without the parts that nothing here reads; returns its text encoder."""
    unet().save_pretrained(folder / "unet")
    scheduler().save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "IFPipeline"}))
    if not with_text_encoder:
        return None
    encoder = text_encoder()
    encoder.save_pretrained(folder / "text_encoder")
    return encoder


def write_stage_2(folder: Path) -> None:
    """A stage II folder."""
    unet(1, **STAGE_2).save_pretrained(folder / "unet")
    scheduler().save_pretrained(folder / "scheduler")
    noising_scheduler().save_pretrained(folder / "image_noising_scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "IFSuperResolutionPipeline"}))
