"""Write into each page of web/docs what the schemas and templates know: kinds and ranges of inputs, the picture, templates to try.

    COMFYUI_PATH=... python tools/help_pages.py

A page needs a title, `## Inputs` with a table of two or three columns, and whatever its author has to say; the rest of it is left alone.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))
from launch import workflow  # noqa: E402
from launch.environment import REPO  # noqa: E402
from tools.comfyui import temporary_server  # noqa: E402
from tools.locales import of_pack  # noqa: E402

PAGES = REPO / "web" / "docs"
TEMPLATES = REPO / "workflows"
SHOWN = 3
"""Templates that a page names at most."""
OPEN_ENDED = 2**31
"""Above this a maximum says no more than that there is hardly any."""

PICTURE = re.compile(r"!\[.*\]\(img/.*\)\n\n")
ROW = re.compile(r"^\| (?P<name>\w+) \|(?:[^|\n]*\|)? (?P<text>[^|\n]*) \|$", re.MULTILINE)
RULE = re.compile(r"^\|[-|]+$", re.MULTILINE)
TRIED = re.compile(r"\nTo try: .*\n")


def kind(spec: list[Any], optional: bool) -> str:
    """What an input takes: a socket's type, or a widget's default and range."""
    name: Any = spec[0]
    options: dict[str, Any] = spec[1]  # every input of ours has a tooltip
    if name in ("INT", "FLOAT"):
        usual, low, high = (f"{options[bound]:.10g}" for bound in ("default", "min", "max"))
        return f"{usual} ({low} or more)" if options["max"] > OPEN_ENDED else f"{usual} ({low} to {high})"
    if name == "BOOLEAN":
        return "on" if options["default"] else "off"
    if name == "STRING":
        return "text"
    if name in ("COMBO", "COLOR") or isinstance(name, list):
        return f"`{options['default']}`" if options.get("default") else "choice"
    return " or ".join(name.split(",")) + (", optional" if optional else "")


def kinds(info: dict[str, Any]) -> dict[str, str]:
    """`kind` of each input of a node, by its name, in order."""
    groups = ((group, group == "optional") for group in ("required", "optional"))
    return {name: kind(spec, optional) for group, optional in groups for name, spec in info["input"].get(group, {}).items()}


def templates_with(node_id: str) -> list[str]:
    """Names of the templates that use a node: those that run as they are, then those whose models have to be fetched, by number."""
    using: list[tuple[bool, str]] = []
    for path in TEMPLATES.glob("*.json"):
        nodes = workflow.all_nodes(workflow.load(path))
        if any(node["type"] == node_id for node in nodes):
            fetched = any(node["type"] == "MarkdownNote" and "fetch.py" in node["widgets_values"][0] for node in nodes)
            using.append((fetched, path.stem))
    return [name for _, name in sorted(using)]


def filled(page: str, node_id: str, info: dict[str, Any]) -> str:
    """The page with what the schema and the templates know; KeyError for a row of the table that is no input."""
    known = {"input": "value", **kinds(info)}
    intro, rest = page.split("## Inputs\n", 1)
    table, rest = rest.split("\n## ", 1)
    intro = PICTURE.sub("", intro) + f"![{info['display_name']}](img/{node_id}.jpg)\n\n"
    table = ROW.sub(lambda row: f"| {row['name']} | {known[row['name']]} | {row['text']} |", table)
    table = RULE.sub("|---|---|---|", table, count=1)
    using = ", ".join(f"`{name}`" for name in templates_with(node_id)[:SHOWN])
    return f"{intro}## Inputs\n{table}\n## {TRIED.sub('', rest)}" + (f"\nTo try: {using}.\n" if using else "")


def main() -> None:
    with temporary_server() as server:
        ours = of_pack(server.get("/object_info"))
    for node_id, info in ours.items():
        path = PAGES / f"{node_id}.md"
        path.write_text(filled(path.read_text(encoding="utf-8"), node_id, info), encoding="utf-8")


if __name__ == "__main__":
    main()
