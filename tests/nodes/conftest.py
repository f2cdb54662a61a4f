"""ComfyUI's model folders, moved to a temporary place with two small diffusers folders in it."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from diffusers_folders import write_folder

KEYS = ("checkpoints", "diffusion_models", "diffusers", "text_encoders", "vae", "vocoders", "embeddings")


@pytest.fixture(scope="session")
def loaders(pack: ModuleType) -> ModuleType:
    return importlib.import_module(pack.__name__ + ".nodes.loaders")


@pytest.fixture(scope="session")
def two_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with two diffusers folders, one for pictures and one for sounds."""
    models = tmp_path_factory.mktemp("models")
    for key in KEYS:
        (models / key).mkdir()
    write_folder(models / "diffusers" / "picture", seed=1)
    write_folder(models / "diffusers" / "author" / "sound", seed=2)
    return models


@pytest.fixture
def models(loaders: ModuleType, two_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `two_folders` in the place of ComfyUI's models folder."""
    import folder_paths

    copy = shutil.copytree(two_folders, tmp_path / "models")
    for key in KEYS:
        extensions = folder_paths.folder_names_and_paths[key][1]
        monkeypatch.setitem(folder_paths.folder_names_and_paths, key, ([str(copy / key)], extensions))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    return copy


@pytest.fixture
def load(loaders: ModuleType) -> Callable[..., SimpleNamespace]:
    """LoadDualUNets' outputs by name."""

    def execute(image: str = "diffusers/picture", audio: str = "diffusers/author/sound", **names: str) -> SimpleNamespace:
        with torch.inference_mode():
            outputs = loaders.LoadDualUNets.execute(image_model_name=image, audio_model_name=audio, **names).args
        return SimpleNamespace(**dict(zip(("image_model", "image_clip", "audio_model", "audio_clip", "vae"), outputs, strict=True)))

    return execute
