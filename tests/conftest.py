"""The tests' harness: ComfyUI from the folder that COMFYUI_PATH names, and the pack loaded as ComfyUI loads it."""

from __future__ import annotations

import os
from types import ModuleType

import pytest
import torch

from tools.comfyui import import_comfyui, load_pack

COMFYUI = os.environ.get("COMFYUI_PATH")

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))

if COMFYUI:
    import_comfyui(COMFYUI, ["--cpu", "--use-pytorch-cross-attention"])
    import nodes  # noqa: F401  # ComfyUI's, before a tool's script puts this repository, which has a nodes/ too, first on the path


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The pack as a package; its submodules by ``importlib.import_module(pack.__name__ + ".bridge.guider")``."""
    if not COMFYUI:
        pytest.skip("COMFYUI_PATH does not name a ComfyUI folder; `python3 quickstart.py --test` provides one")
    return load_pack(tmp_path_factory.mktemp("custom_nodes"))
