"""ComfyUI and the pack inside a task's own process."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import ModuleType

from tools.comfyui import import_comfyui, load_pack


def start(base: Path) -> ModuleType:
    """The pack, loaded as ComfyUI loads it, with the ComfyUI of COMFYUI_PATH on the CPU; `base` is an empty folder."""
    import_comfyui(os.environ["COMFYUI_PATH"], ["--cpu", "--use-pytorch-cross-attention"])
    import torch

    import nodes  # noqa: F401  # ComfyUI's, before anything puts this repository, which has a nodes/ too, first on the path

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    (base / "custom_nodes").mkdir()
    return load_pack(base / "custom_nodes")
