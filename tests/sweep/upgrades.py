"""Part: what users saved with earlier releases. Their prompts still validate and run, their workflows still become the same prompts."""

from __future__ import annotations

import gzip
import json
import os
import sys
import tempfile
import urllib.error
from pathlib import Path
from typing import Any

from launch import workflow
from launch.environment import QuickstartError
from launch.server import Server

from .log import Log
from .oracle import RAW, SILENT, Outcome

TITLE = "Workflows of earlier releases"
LIMIT = 900.0
STEPS = 2
DATA = Path(__file__).parent / "data"
RELEASES = tuple(path.name.removeprefix("templates-").removesuffix(".json.gz") for path in sorted(DATA.glob("templates-*.json.gz")))

Saved = dict[str, dict[str, Any]]


def saved_by(release: str) -> Saved:
    """Of each template of a release, by its name: `workflow` as the front end saved it, `prompt` as it was sent to the server."""
    return json.loads(gzip.decompress((DATA / f"templates-{release}.json.gz").read_bytes()))


def changed_inputs(saved: dict[str, Any], object_info: dict[str, Any]) -> list[str]:
    """What a saved workflow gives now that it did not give then: none of its values may have moved to another input.

    Inputs that a node of ComfyUI's own has not yet, where this ComfyUI is older than the one that saved them, do not count.
    """
    now = workflow.to_prompt(saved["workflow"], object_info)
    return [
        f"{node['class_type']}.{name} was {value!r}, is {now.get(key, {}).get('inputs', {}).get(name)!r}"
        for key, node in saved["prompt"].items()
        for name, value in node["inputs"].items()
        if not _alike(now.get(key, {}).get("inputs", {}).get(name), value, object_info[node["class_type"]], name)
    ]


def _alike(now: Any, then: Any, node: dict[str, Any], name: str) -> bool:
    """Whether an input is what it was.

    A switch of a node of ComfyUI's own is what the server makes of it, where the value is now of a kind that a switch has not: from 0.27 on
    ContextWindowsManual has a text before its last switch, so that 0.24 reads that text, which is empty, as the switch: off, as it was.
    """
    if now == then:
        return True
    if node["python_module"].startswith("custom_nodes"):
        return False
    known = {name: kind for group in node["input"].values() for name, (kind, *_) in group.items()}
    return name not in known or (known[name] == "BOOLEAN" and now is not None and not isinstance(now, bool) and bool(now) == then)


def refusals(server: Server, prompt: workflow.Prompt) -> list[str]:
    """What the server says against a prompt, which is not run."""
    try:
        answer = server.post("/prompt", {"prompt": prompt})
    except urllib.error.HTTPError as refusal:
        answer = json.load(refusal)
    server.post("/queue", {"clear": True})
    server.post("/interrupt", {})
    errors = [
        f"{node['class_type']}: {error['details']}" for node in (answer.get("node_errors") or {}).values() for error in node["errors"]
    ]
    return errors or ([answer["error"]["message"]] if "error" in answer else [])


def tasks(hours: float) -> list[str]:
    return [f"{release}-{half}" for release in RELEASES for half in ("a", "b")]


def run(task: str, hours: float, log: Log) -> None:
    from small_templates import embedded_twin, shortened

    release, _, half = task.rpartition("-")
    templates = list(saved_by(release).items())
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        with Server(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), base, base / "output", options=("--cpu",)) as server:
            object_info = server.get("/object_info")
            for name, saved in templates[::2] if half == "a" else templates[1::2]:
                with log.case(release, f"{name}: its values are where they were") as outcomes:
                    moved = changed_inputs(saved, object_info)
                    outcomes += [Outcome(SILENT, "; ".join(moved))] if moved else []
                with log.case(release, f"{name}: it runs") as outcomes:
                    try:
                        files = server.files_of(embedded_twin(shortened(saved["prompt"], STEPS), server))
                        outcomes += [] if files and all(file.stat().st_size for file in files) else [Outcome(SILENT, "no file was saved")]
                    except QuickstartError as error:
                        outcomes.append(Outcome(RAW, str(error)))
