"""Where the embedded models are: diffusers-layout folders that ship with the pack and are read by the same code as any other."""

from __future__ import annotations

from pathlib import Path

MODELS = Path(__file__).resolve().parent.parent / "models"
IMAGE_FOLDER = MODELS / "embedded-image"
AUDIO_FOLDER = MODELS / "embedded-audio"
COLOR_FOLDER = MODELS / "embedded-color"
VAE_FOLDER = IMAGE_FOLDER
"""The folder whose vae/ is both models'."""
VOCODER_FOLDER = AUDIO_FOLDER / "vocoder"
CLIP_FOLDER = MODELS / "embedded-clip"
CLAP_FOLDER = MODELS / "embedded-clap"
