"""Templates made small enough to run in seconds: fewer steps, two windows of the longest canvas, embedded models for published ones."""

from __future__ import annotations

import json
from pathlib import Path

import tiny_deepfloyd
import torch
from safetensors.torch import save_file

from launch import workflow
from launch.environment import REPO
from launch.server import Server

LONG = 12.8  # seconds: two windows of 10.24
SHORT = 3.2  # for DeepFloyd IF, whose stages take long on a CPU even where they are small


def shortened(prompt: workflow.Prompt, steps: int) -> workflow.Prompt:
    """The prompt with so many steps or iterations, five candidates of a search and no canvas longer than two windows; it is changed."""
    for node in prompt.values():
        inputs = node["inputs"]
        if "steps" in inputs:
            inputs["steps"] = steps
        if inputs.get("seconds", 0) > LONG:
            inputs["seconds"] = LONG
        if "candidates" in inputs:
            inputs |= {"candidates": 5, "budget": 4.5}
        if "warm_start" in inputs:
            inputs |= {"iterations": steps, "warm_start": 1, "hidden": 16}
        if "start_step" in inputs:
            inputs["start_step"] = 1
    return prompt


def embedded_twin(prompt: workflow.Prompt, server: Server) -> workflow.Prompt:
    """The same prompt on the embedded models; its LoRAs and DeepFloyd IF are written into the server's folder."""
    for node in prompt.values():
        inputs = node["inputs"]
        inputs |= {name: "embedded" for name in ("image_model_name", "audio_model_name", "vocoder_name") if name in inputs}
        if "lora_name" in inputs:
            write_lora(server.base / "models" / "loras" / inputs["lora_name"])
        if "stage_1_name" in inputs:
            tiny_deepfloyd.write_stage_1(server.base / "models" / inputs["stage_1_name"])
            tiny_deepfloyd.write_stage_2(server.base / "models" / inputs["stage_2_name"])
            for other in prompt.values():
                other["inputs"] |= {"seconds": SHORT} if "seconds" in other["inputs"] else {}
    return prompt


def write_lora(path: Path) -> None:
    """A random LoRA, strong enough to be seen, of an attention projection in the middle of the embedded image model's UNet."""
    config = json.loads((REPO / "models" / "embedded-image" / "unet" / "config.json").read_text(encoding="utf-8"))
    layer, width, rank = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_v", config["block_out_channels"][-1], 4
    generator = torch.Generator().manual_seed(0)
    up, down = torch.randn(width, rank, generator=generator), torch.randn(rank, width, generator=generator)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({f"{layer}.lora_up.weight": up, f"{layer}.lora_down.weight": down}, path)
