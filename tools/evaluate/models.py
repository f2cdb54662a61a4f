"""The models that samples are made, heard, scored and judged by: where they are, and what of them a row depends on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from itsound_core import embedded
from itsound_core.sampling import NoisePredictor, guided

from .rows import Row


@dataclass(frozen=True)
class Folders:
    """Folders as diffusers and transformers save them, a HiFi-GAN's, and the folder with the judges' two files; None: no judges."""

    image: Path = embedded.IMAGE_FOLDER
    audio: Path = embedded.AUDIO_FOLDER
    vae: Path = embedded.IMAGE_FOLDER / "vae"
    vocoder: Path = embedded.VOCODER_FOLDER
    clip: Path = embedded.CLIP_FOLDER
    clap: Path = embedded.CLAP_FOLDER
    judges: Path | None = None

    def files(self, row: Row) -> dict[str, str]:
        """Digests of the weights that samples of a row depend on, by what they are.

        Raises FileNotFoundError for a folder without weights.
        """
        used = {side: [self.of(side) / part for part in ("unet", "text_encoder")] for side in ("image", "audio") if _takes_part(row, side)}
        used |= {name: [self.of(name)] for name in ("vae", "clip", "clap")}
        if row.vocoder != Row.vocoder:
            used["vocoder"] = [self.vocoder]
        if self.judges is not None:
            used["judges"] = [self.judges / "picture.pt", self.judges / "sound.pt"]
        return {name: digest(_weights(parts)) for name, parts in used.items()}

    def of(self, name: str) -> Path:
        return getattr(self, name)


def _takes_part(row: Row, side: str) -> bool:
    return getattr(row, f"{side}_guidance") is not None


def _weights(parts: list[Path]) -> list[Path]:
    found = []
    for part in parts:
        files = [part] if part.is_file() else [path for suffix in ("safetensors", "bin", "pt") for path in part.glob(f"*.{suffix}")]
        if not files:
            raise FileNotFoundError(f"{part} has no weights. Name the model's folder as diffusers or transformers saves it.")
        found += files
    return found


def digest(paths: Iterable[Path]) -> str:
    """Short sha256 of files' contents."""
    return hashlib.sha256(b"".join(_sha256(path) for path in sorted(paths))).hexdigest()[:16]


def _sha256(path: Path) -> bytes:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.digest()


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
