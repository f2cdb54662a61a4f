"""ComfyUI in a process of its own, started as its main.py starts it: options, memory manager, allocator."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from tools.comfyui import import_comfyui, load_pack


def start(options: Sequence[str]) -> dict[str, str]:
    """Import ComfyUI with these options, before anything imports torch. Returns what of it is live, by name.

    Raises RuntimeError where dynamic VRAM was asked for with --enable-dynamic-vram and cannot be had.
    """
    import_comfyui(os.environ["COMFYUI_PATH"], options)
    cli_args = importlib.import_module("comfy.cli_args")
    control = None
    if cli_args.enables_dynamic_vram():
        control = importlib.import_module("comfy_aimdo.control")
        control.init(simple_vram_headroom=None, nvml_pressure=True)
    importlib.import_module("cuda_malloc")
    management = importlib.import_module("comfy.model_management")
    dynamic = False
    if control is not None and management.get_torch_device().type == "cuda":
        headroom = int(cli_args.args.vram_headroom * 2**30)
        dynamic = bool(control.init_devices((device.index, headroom) for device in management.get_all_torch_devices()))
    if dynamic:
        patching: Any = importlib.import_module("comfy.model_patcher")
        patching.CoreModelPatcher = patching.ModelPatcherDynamic
        memory: Any = importlib.import_module("comfy.memory_management")
        memory.aimdo_enabled = True
    elif cli_args.args.enable_dynamic_vram:
        raise RuntimeError("comfy-aimdo could not be started on this device, so there is no dynamic VRAM here")
    return {
        "options": " ".join(options),
        "device": str(management.get_torch_device()),
        "memory": "dynamic VRAM" if dynamic else management.vram_state.name,
        "allocator": os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "PyTorch's own"),
    }


class Pack:
    """The pack as ComfyUI loads it."""

    def __init__(self) -> None:
        self._custom_nodes = tempfile.TemporaryDirectory()
        importlib.import_module("nodes")  # ComfyUI's, before anything puts this repository, which has a nodes/ too, first on the path
        self.package = load_pack(Path(self._custom_nodes.name))

    def module(self, name: str) -> ModuleType:
        """A module by its name in the pack, as "bridge.guider"."""
        return importlib.import_module(f"{self.package.__name__}.{name}")

    def nodes(self) -> dict[str, type]:
        """Every node by its id."""
        files = sorted((Path(self.package.__file__ or "").parent / "nodes").glob("[a-z]*.py"))
        families = [self.module(f"nodes.{file.stem}") for file in files]
        return {node.GET_SCHEMA().node_id: node for family in families for node in family.NODES}
