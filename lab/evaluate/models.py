"""The models that samples are made by, as diffusers and transformers load them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from itsound_core.sampling import NoisePredictor, guided


@dataclass
class Side:
    """UNet, tokenizer and text encoder of one side."""

    unet: UNet2DConditionModel
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Side:
        """From a diffusers folder, in float32."""
        unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=torch.float32, low_cpu_mem_usage=False)
        text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
        return cls(unet.eval().to(device), CLIPTokenizer.from_pretrained(folder / "tokenizer"), text_encoder.eval().to(device))

    @torch.no_grad()
    def embed(self, prompts: list[str]) -> Tensor:
        """(B, 77, D), padded with the end token."""
        ids = self.tokenizer(prompts, padding="max_length", truncation=True, max_length=77, return_tensors="pt")["input_ids"]
        return self.text_encoder(ids.to(self.text_encoder.device)).last_hidden_state

    def predictor(self, prompts: list[str], guidance: float) -> NoisePredictor:
        return guided(self.unet, self.embed(prompts), self.embed([""]), guidance)


def load_vae(folder: Path, device: str = "cpu") -> AutoencoderKL:
    vae = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32, low_cpu_mem_usage=False)
    return vae.eval().requires_grad_(False).to(device)


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Pictures (B, 256, 1024) in 0..1 from scaled latents (B, 4, 32, 128)."""
    pixels = torch.cat([vae.decode(latent[None] / vae.config["scaling_factor"], return_dict=False)[0] for latent in latents])
    return (pixels.mean(dim=1) / 2 + 0.5).clamp(0, 1)
