"""The tests' harness: ComfyUI from the folder that COMFYUI_PATH names, and the pack loaded as ComfyUI loads it."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

REPO = Path(__file__).resolve().parent.parent
COMFYUI = os.environ.get("COMFYUI_PATH")

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


def _import_comfyui(folder: str) -> None:
    """Put ComfyUI on the path and let it read its command line once: it picks its device while it is imported."""
    sys.path.insert(0, folder)  # before the repository, whose nodes/ would hide ComfyUI's nodes.py
    import comfy.options  # pyright: ignore[reportMissingImports]

    comfy.options.enable_args_parsing()
    argv, sys.argv = sys.argv, ["main.py", "--cpu", "--use-pytorch-cross-attention"]
    try:
        import comfy.cli_args  # pyright: ignore[reportMissingImports]  # noqa: F401
    finally:
        sys.argv = argv


if COMFYUI:
    _import_comfyui(COMFYUI)


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The pack as a package, loaded by path from a folder whose name has a hyphen, as ComfyUI's load_custom_node does.

    Submodules: ``importlib.import_module(pack.__name__ + ".nodes.guider")``.
    """
    if not COMFYUI:
        pytest.skip("COMFYUI_PATH does not name a ComfyUI folder; `python3 quickstart.py --test` provides one")
    folder = tmp_path_factory.mktemp("custom_nodes") / "images-that-sound"
    folder.symlink_to(REPO, target_is_directory=True)
    name = str(folder).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
