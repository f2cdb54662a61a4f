"""Writes small diffusers folders of the SD 1.x family with random weights, as diffusers and transformers save them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

WORDS = ("a", "bell", "castle", "dog", "drawing", "of", "ringing")
START, END = "<|startoftext|>", "<|endoftext|>"
SD_SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}


class Reference(NamedTuple):
    """What diffusers and transformers make of the folder."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel


def unet(**config) -> UNet2DConditionModel:
    """A random UNet: 32 and 64 wide, attention in the lower of two levels, unless the config says otherwise."""
    defaults = {
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 2,
        "cross_attention_dim": 32,
    }
    return UNet2DConditionModel(**(defaults | config)).eval()


def vae(widths: tuple[int, ...] = (32, 32, 32, 32), **config) -> AutoencoderKL:
    """A random VAE, f = 8 with four widths."""
    levels = len(widths)
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        **({"layers_per_block": 1, "latent_channels": 4} | config),
    ).eval()


def text_encoder(**config) -> CLIPTextModel:
    """A random text encoder, 32 wide with one layer, for the vocabulary of `write_tokenizer`."""
    size = len(vocabulary())
    special = {"bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": size - 1}
    defaults = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    return CLIPTextModel(CLIPTextConfig(vocab_size=size, **(special | defaults | config))).eval()


def merges() -> list[tuple[str, str]]:
    """Byte-pair merges that make each of WORDS one token."""
    pairs: dict[tuple[str, str], None] = {}
    for word in WORDS:
        left = ""
        for piece in (*word[:-1], f"{word[-1]}</w>"):
            if left:
                pairs[left, piece] = None
            left += piece
    return list(pairs)


def vocabulary() -> dict[str, int]:
    characters = [chr(code) for code in range(33, 127)]
    tokens = [*characters, *(f"{character}</w>" for character in characters), *(left + right for left, right in merges()), START, END]
    return {token: index for index, token in enumerate(dict.fromkeys(tokens))}


def write_tokenizer(folder: Path, words_file: bool = False) -> None:
    """A CLIP tokenizer that knows WORDS, each as one token; with the list of known words if asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary()))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges()))
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special}))
    if words_file:
        (folder / "words.json").write_text(json.dumps(WORDS))


def write_folder(folder: Path, seed: int = 0, text: dict | None = None, **unet_config) -> Reference:
    """A whole folder: unet, vae, text_encoder, tokenizer, scheduler, model_index.json."""
    torch.manual_seed(seed)
    reference = Reference(unet(**unet_config), vae(), text_encoder(**(text or {})))
    for name, model in reference._asdict().items():
        model.save_pretrained(folder / name)
    write_tokenizer(folder / "tokenizer")
    DDIMScheduler(**SD_SCHEDULE).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    return reference


def write_color_folder(folder: Path, seed: int = 0, rows: int = 64, **unet_config) -> UNet2DConditionModel:
    """A pixel-space folder as lab/train/train_color.py exports it: unet and scheduler, no text encoder."""
    torch.manual_seed(seed)
    shape = {
        "in_channels": 3,
        "out_channels": 3,
        "sample_size": rows,
        "block_out_channels": (32, 32, 32, 64),
        "down_block_types": ("DownBlock2D", "DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"),
    }
    reference = unet(**shape | unet_config)
    reference.save_pretrained(folder / "unet")
    DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "DiffusionPipeline"}))
    return reference


def edit_json(path: Path, **changes) -> None:
    """Change keys of a config."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
