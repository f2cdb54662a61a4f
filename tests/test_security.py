"""What the pack's own code may not do: run text as code or markup, unpickle freely, reach the network, or write files by itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


def code_of(*rooms: str) -> list[Path]:
    return [path for room in rooms for path in (REPO / room).rglob("*.py")]


PACK_CODE = sorted([REPO / "__init__.py", *code_of("itsound_core", "bridge", "nodes")])
FETCHING = sorted([REPO / "fetch.py", *code_of("published")])
ALL_CODE = sorted([*PACK_CODE, *FETCHING, REPO / "quickstart.py", *code_of("launch", "lab", "tools")])

CODE_FROM_TEXT = {"eval", "exec", "compile", "__import__", "pickle.load", "pickle.loads", "marshal.loads", "os.system"}
NETWORK_AND_PROCESSES = {"requests", "urllib", "http", "socket", "huggingface_hub", "subprocess"}
# Inside ComfyUI's output folder; tests/nodes/test_sds_node.py and test_saving_node.py hold them to that.
OUTPUT_WRITERS = {"bridge/checkpoint.py": {"mkdir", "write_bytes", "unlink"}, "bridge/saving.py": {"open", "unlink"}}
IN_MEMORY = {"buffer", "data", "self.distillation"}
"""What a `save` of the pack may be given: io.BytesIO objects by their names, and what a checkpoint takes to save."""
FILE_WRITERS = {"write_text", "write_bytes", "mkdir", "makedirs", "unlink", "rmtree", "rename", "save_file", "tofile"}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def named(path: Path) -> str:
    return path.relative_to(REPO).as_posix()


@pytest.mark.parametrize("path", ALL_CODE, ids=named)
def test_no_text_is_run_as_code_and_no_pickle_is_read_freely(path: Path) -> None:
    for name, call in calls(path):
        assert name not in CODE_FROM_TEXT, f"line {call.lineno}: {name}"
        if name in ("torch.load", "comfy.utils.load_torch_file"):
            safe = {"torch.load": "weights_only", "comfy.utils.load_torch_file": "safe_load"}[name]
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert keywords.get(safe) == "True", f"line {call.lineno}: {name} without {safe}=True"


def imported(path: Path) -> set[str]:
    """The first names of the modules that a file imports, relative ones too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} if node.module else {alias.name for alias in node.names}
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", FETCHING, ids=named)
def test_of_the_fetch_command_one_file_alone_reaches_the_network(path: Path) -> None:
    assert bool(imported(path) & NETWORK_AND_PROCESSES) == (named(path) == "published/hub.py")


@pytest.mark.parametrize("path", PACK_CODE, ids=named)
def test_nodes_reach_no_network_start_no_process_and_write_no_file(path: Path) -> None:
    assert not imported(path) & {*NETWORK_AND_PROCESSES, "published", "fetch"}
    for name, call in calls(path):
        assert name.split(".")[-1] not in FILE_WRITERS - OUTPUT_WRITERS.get(named(path), set()), f"line {call.lineno}: {name}"
        if name in ("torch.save", "np.save", "numpy.save") or name.endswith(".save") and call.args:
            # into a buffer in memory, or a method of ours; a path is a file
            target = call.args[-1 if name.startswith("torch") else 0]
            assert ast.unparse(target) in IN_MEMORY, f"line {call.lineno}: {name}"
        if name == "open" or name.endswith(".open") and not ast.unparse(call.func).startswith(("av.", "Image.")):
            first = 1 if name == "open" else 0
            mode = [*call.args[first : first + 1], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
            reads = all(ast.unparse(argument).strip("'\"") in ("r", "rb") for argument in mode)
            assert reads or "open" in OUTPUT_WRITERS.get(named(path), ()), f"line {call.lineno}: opened for writing"


SCRIPTS = sorted([*(REPO / "web").rglob("*.js"), REPO / "lab" / "study" / "survey.js"])
MARKUP_FROM_TEXT = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|createContextualFragment|DOMParser|setHTML|\beval\b|new Function"
    r"|set(?:Timeout|Interval)\(\s*[\"'`]|javascript:"
)
ELSEWHERE = re.compile(r"https?://(?!www\.w3\.org/2000/svg\b)|XMLHttpRequest|WebSocket|EventSource|sendBeacon|\bimport\(")


@pytest.mark.parametrize("path", SCRIPTS, ids=named)
def test_no_script_makes_markup_of_text_or_asks_another_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not MARKUP_FROM_TEXT.findall(text) and not ELSEWHERE.findall(text)
    for origin in re.findall(r"""from "([^"]+)";""", text):
        assert origin.startswith("./") or origin in ("../../../scripts/api.js", "../../../scripts/app.js"), origin


def test_help_translations_and_graphs_that_ship_hold_no_markup_and_load_nothing_from_elsewhere() -> None:
    pages = [*(REPO / "web" / "docs").rglob("*.md"), *(REPO / "locales").rglob("*.json")]
    pages += [*(REPO / "workflows").glob("*.json"), *(REPO / "subgraphs").glob("*.json")]
    assert len(pages) > 100
    for path in pages:
        prose = re.sub(r"`[^`]*`", "", path.read_text(encoding="utf-8"))  # code is shown as it is
        assert not re.findall(r"<[a-zA-Z/!]|javascript:|\bon\w+\s*=\s*[\\\"']", prose), path
        assert not re.findall(r"!\[[^]]*\]\((?!img/[\w.]+\))", prose), f"{path} shows a picture from elsewhere"


@pytest.mark.parametrize("path", ALL_CODE, ids=named)
def test_tar_archives_are_unpacked_by_the_filter_that_keeps_them_in_their_folder(path: Path) -> None:
    """tests/security/test_archives.py tries it."""
    for name, call in calls(path):
        assert not name.endswith("unpack_archive"), f"line {call.lineno}"
        if name.endswith("extractall") and name != "wheel.extractall":  # zipfile leaves no folder by itself
            assert {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}.get("filter") == "'data'", f"line {call.lineno}"
