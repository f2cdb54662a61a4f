"""ComfyUI's model folders, moved to a temporary place with two small diffusers folders in it."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from diffusers_folders import write_folder


@pytest.fixture(autouse=True)
def free_memory(pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """As much free memory as every test needs, whatever else the machine does.

    ComfyUI asks a model with both prompts at once only where its estimate of the memory, 5.5 GiB for a picture of 256 x 72 pixels, is free,
    and one after the other gives other last bits.
    """
    monkeypatch.setattr(importlib.import_module("comfy.model_patcher").ModelPatcher, "get_free_memory", lambda *_: 2**40)


@pytest.fixture(scope="session")
def loaders(pack: ModuleType) -> ModuleType:
    return importlib.import_module(pack.__name__ + ".nodes.loaders")


@pytest.fixture(scope="session")
def two_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with two diffusers folders, one for pictures and one for sounds."""
    models = tmp_path_factory.mktemp("models")
    write_folder(models / "diffusers" / "picture", seed=1)
    write_folder(models / "diffusers" / "author" / "sound", seed=2)
    return models


@pytest.fixture
def models(loaders: ModuleType, two_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `two_folders` in the place of ComfyUI's models folder."""
    from model_files import use_models_folder

    copy = shutil.copytree(two_folders, tmp_path / "models")
    use_models_folder(copy, monkeypatch)
    return copy


@pytest.fixture
def load(loaders: ModuleType) -> Callable[..., SimpleNamespace]:
    """LoadDualUNets' outputs by name, of the two folders unless other names are given."""
    from model_files import load_pair

    def of(image: str = "diffusers/picture", audio: str = "diffusers/author/sound", **names: str) -> SimpleNamespace:
        return load_pair(loaders, image, audio, **names)

    return of
