"""Part: every node with drawn inputs."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from .log import Log

TITLE = "Nodes with drawn inputs"
REPO = Path(__file__).resolve().parent.parent.parent
EXAMPLES_IN_TWO_HOURS = 150


def tasks(hours: float) -> list[str]:
    """The nodes: a file's `NODES` are classes named as their ids."""
    lists = (
        re.search(r"^NODES = \[(.*)\]$", path.read_text(encoding="utf-8"), re.MULTILINE) for path in sorted((REPO / "nodes").glob("*.py"))
    )
    return [name.strip() for found in lists if found for name in found[1].split(",")]


def run(task: str, hours: float, log: Log) -> None:
    from .comfyui import start

    with tempfile.TemporaryDirectory() as base:
        pack = start(Path(base))
        from .drawing import explore, node_classes
        from .models import Models

        models, classes = Models(pack, Path(base)), node_classes(pack)
        examples = max(1, round(EXAMPLES_IN_TWO_HOURS * hours / 2))
        explore(models, classes, task, examples, begin=lambda case: log.begin(task, case), end=log.end)
