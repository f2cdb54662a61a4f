"""The models at full size, written once and removed at the end: 6.5 GB, and up to 6 GB more while a test has layouts of its own."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def loaders(pack: ModuleType) -> ModuleType:
    return importlib.import_module(pack.__name__ + ".nodes.loaders")


@pytest.fixture(scope="session")
def models(loaders: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """ComfyUI's models folder with `checkpoints/sd15.safetensors`, and `diffusers/sd15` and `diffusers/auffusion` of the same weights."""
    import full_size
    from model_files import use_models_folder

    folder = tmp_path_factory.mktemp("full") / "models"
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_models_folder(folder, monkeypatch)
        try:
            checkpoint, diffusers = folder / "checkpoints" / "sd15.safetensors", folder / "diffusers" / "sd15"
            full_size.write_checkpoint(checkpoint)
            full_size.write_configs(diffusers)
            for name in ("unet", "vae", "text_encoder"):
                full_size.from_checkpoint(checkpoint, diffusers, name).half().save_pretrained(diffusers / name, variant="fp16")
            shutil.copytree(diffusers, folder / "diffusers" / "auffusion", copy_function=os.link)
            yield folder
        finally:
            shutil.rmtree(folder)


@pytest.fixture
def scratch(models: Path) -> Iterator[Path]:
    """The same models folder for layouts of one test, which are removed after it."""
    before = set(models.rglob("*"))
    yield models
    for path in sorted(set(models.rglob("*")) - before, reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
