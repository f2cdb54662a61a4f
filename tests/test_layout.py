"""Data goes one way: nodes -> bridge -> itsound_core. The lab may use all three, and nothing of the pack uses the lab."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
PACK = ("itsound_core", "bridge", "nodes")
ROOMS = ("itsound_core", "bridge", "nodes", "published", "lab", "launch", "tools", "tests")
COMFYUI_NODES = "comfyui.nodes"
MAY_USE = {"itsound_core": set(), "bridge": {"itsound_core"}, "nodes": {"bridge", "itsound_core"}, "published": set(), "launch": set()}
"""The other rooms that a room's files may import from; the rest may use any."""


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it, relative ones as paths from the repository's root.

    An absolute `nodes` in the pack is ComfyUI's own module, the only one that is meant so.
    """
    inside = path.relative_to(REPO).parts[0] in PACK
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (COMFYUI_NODES if inside and alias.name == "nodes" else alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield COMFYUI_NODES if inside and node.module == "nodes" else node.module or ""
        elif isinstance(node, ast.ImportFrom):
            parents = path.relative_to(REPO).parts[: -node.level]
            # `from . import a` names modules, `from .a import b` one
            yield from [".".join([*parents, node.module])] if node.module else (".".join([*parents, alias.name]) for alias in node.names)


def foreign_rooms(path: Path, room: str) -> set[str]:
    return {name.split(".")[0] for name in imported(path)} & set(ROOMS) - {room}


@pytest.mark.parametrize(("room", "allowed"), MAY_USE.items(), ids=MAY_USE)
def test_a_room_uses_only_the_rooms_below_it(room: str, allowed: set[str]) -> None:
    files = sorted((REPO / room).rglob("*.py"))
    assert files
    found = {path.name: used - allowed for path in files if (used := foreign_rooms(path, room)) - allowed}
    assert not found


def test_a_relative_import_of_a_node_in_bridge_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.REPO", tmp_path)
    (tmp_path / "bridge").mkdir()
    file = tmp_path / "bridge" / "provenance.py"
    for line in ("from ..nodes.loaders import LoadVocoder", "from ..nodes import loaders", "from .. import nodes"):
        file.write_text(line)
        assert foreign_rooms(file, "bridge") == {"nodes"}, line
    file.write_text("import nodes as comfyui")
    assert foreign_rooms(file, "bridge") == set()


def test_of_comfyui_the_core_knows_nothing() -> None:
    for path in (REPO / "itsound_core").rglob("*.py"):
        modules = {name.split(".")[0] for name in imported(path)}
        assert not modules & {
            "comfy",
            "comfy_api",
            "comfy_extras",
            "folder_paths",
            "nodes",
            COMFYUI_NODES.split(".")[0],
            "server",
            "execution",
        }, path.name


def test_a_node_file_imports_relatively() -> None:
    """ComfyUI loads the pack by its path, under a name of its own: an absolute import would miss it."""
    for room in PACK:
        for path in (REPO / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and not node.level:
                    assert (node.module or "").split(".")[0] not in {"itsound_core", "bridge", "lab", "launch", "tools"}, path.name
