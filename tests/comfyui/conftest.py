"""A real ComfyUI server with the pack in it, its folders in a temporary place."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.quickstart import environment
from tools.quickstart.server import Server

REPO = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """ComfyUI from COMFYUI_PATH, on the CPU, with the templates' inputs in its input folder."""
    comfyui = os.environ.get("COMFYUI_PATH")
    if not comfyui:
        pytest.skip("COMFYUI_PATH does not name a ComfyUI folder; `python3 quickstart.py --test` provides one")
    base = tmp_path_factory.mktemp("comfyui")
    shutil.copytree(environment.INPUTS, base / "input", dirs_exist_ok=True)
    with Server(Path(sys.executable), Path(comfyui), base, base / "output", options=("--cpu", "--disable-api-nodes")) as running:
        yield running


@pytest.fixture(scope="session")
def object_info(server: Server) -> dict[str, Any]:
    return server.get("/object_info")
