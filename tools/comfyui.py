"""ComfyUI and this pack for the tests, the benchmarks and the makers of pictures: inside one's own process, or as a server of one's own."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from launch.server import Server

REPO = Path(__file__).resolve().parent.parent


def import_comfyui(folder: str, options: Sequence[str]) -> None:
    """Put ComfyUI on the path and let it read `options` as its command line once: it picks its device while it is imported."""
    sys.path.insert(0, folder)  # before the repository, whose nodes/ would hide ComfyUI's nodes.py
    import comfy.options  # pyright: ignore[reportMissingImports]

    comfy.options.enable_args_parsing()
    argv, sys.argv = sys.argv, ["main.py", *options]
    try:
        import comfy.cli_args  # pyright: ignore[reportMissingImports]  # noqa: F401
    finally:
        sys.argv = argv


def load_pack(custom_nodes: Path, pack: Path = REPO) -> ModuleType:
    """The pack as a package, loaded by path from a folder whose name has a hyphen, as ComfyUI's load_custom_node does.

    `custom_nodes` is an empty folder; `pack` is what to load, this checkout or another copy. Submodules:
    ``importlib.import_module(pack.__name__ + ".bridge.guider")``.
    """
    folder = custom_nodes / "images-that-sound"
    folder.symlink_to(pack, target_is_directory=True)
    name = str(folder).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def temporary_server(front_end: Path | None = None) -> Iterator[Server]:
    """The ComfyUI that COMFYUI_PATH names, on the CPU, with this pack in it; its folders last as long as it runs.

    `front_end` is the folder of another front end than its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        base, options = Path(folder), ("--cpu", "--disable-api-nodes")
        if front_end:
            options += ("--front-end-root", str(front_end))
        with Server(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), base, base / "output", options=options) as server:
            yield server
