"""Write into the help pages, web/docs/<NodeId>/en.md and zh.md, what schemas, translations and templates know.

    COMFYUI_PATH=... python tools/help_pages.py

The English page needs a title, `## Inputs` with a table of two or three columns, and whatever its author has to say; the rest of it is
left alone. The Chinese page has the translated tooltips as its tables. ComfyUI's front end asks for the page in its own language first,
then for web/docs/<NodeId>.md, whatever that language is: those are copies of the English ones.
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
from tools.locales import load, of_pack  # noqa: E402

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
TRIED_CHINESE = re.compile(r"\n试一试：.*\n")
WORDS = {"on": "开", "off": "关", "text": "文本", "choice": "选择"}


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
    """The English page with what the schema and the templates know; KeyError for a row of the table that is no input."""
    known = {"input": "value", **kinds(info)}
    intro, rest = page.split("## Inputs\n", 1)
    table, rest = rest.split("\n## ", 1)
    intro = PICTURE.sub("", intro) + f"![{info['display_name']}](img/{node_id}.jpg)\n\n"
    table = ROW.sub(lambda row: f"| {row['name']} | {known[row['name']]} | {row['text']} |", table)
    table = RULE.sub("|---|---|---|", table, count=1)
    return f"{intro}## Inputs\n{table}\n## {TRIED.sub('', rest)}" + tried(node_id, "\nTo try: {}.\n", ", ")


def tried(node_id: str, line: str, between: str) -> str:
    using = between.join(f"`{name}`" for name in templates_with(node_id)[:SHOWN])
    return line.format(using) if using else ""


def filled_chinese(page: str, node_id: str, info: dict[str, Any], told: dict[str, Any]) -> str:
    """The Chinese page with its tables, of which `told` has names and tooltips (the node's part of nodeDefs.json)."""
    intro, rest = page.split("## 输入\n", 1)
    own = rest.split("## 输出\n", 1)[1].split("\n## ", 1)[1]
    intro = PICTURE.sub("", intro) + f"![{told['display_name']}](img/{node_id}.jpg)\n\n"
    inputs = [
        f"| {told['inputs'][name]['name']} | {in_chinese(what)} | {told['inputs'][name]['tooltip']} |" for name, what in kinds(info).items()
    ]
    outputs = [f"| {output['name']} | {output['tooltip']} |" for output in told.get("outputs", {}).values()]
    tables = ["## 输入", "", "| 输入 | 值 | 说明 |", "|---|---|---|", *inputs, "", "## 输出", ""]
    tables += ["| 输出 | 说明 |", "|---|---|", *outputs] if outputs else ["无。"]
    return intro + "\n".join(tables) + f"\n\n## {TRIED_CHINESE.sub('', own)}" + tried(node_id, "\n试一试：{}。\n", "、")


def in_chinese(what: str) -> str:
    """What `kind` says of an input."""
    what = re.sub(r" \((\S+) to (\S+)\)$", r"（\1 到 \2）", what)
    what = re.sub(r" \((\S+) or more\)$", r"（\1 或更大）", what)
    return WORDS.get(what, what.replace(", optional", "，可选").replace(" or ", " 或 "))


def pages(node_id: str, info: dict[str, Any]) -> dict[Path, str]:
    """What each file of a node's help has to be."""
    english, chinese = (PAGES / node_id / f"{language}.md" for language in ("en", "zh"))
    text = filled(english.read_text(encoding="utf-8"), node_id, info)
    told = load("zh")["nodeDefs"][node_id]
    translated = filled_chinese(chinese.read_text(encoding="utf-8"), node_id, info, told)
    return {english: text, chinese: translated, PAGES / f"{node_id}.md": text}


def prose(page: str) -> str:
    """A page without headings, tables, picture and what this tool has written."""
    return "\n".join(line for line in page.splitlines() if not line.startswith(("#", "|", "!", "To try", "试一试")))


def main() -> None:
    with temporary_server() as server:
        ours = of_pack(server.get("/object_info"))
    for node_id, info in ours.items():
        for path, text in pages(node_id, info).items():
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
