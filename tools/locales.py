"""What each translation still lacks of the nodes' and templates' texts.

    COMFYUI_PATH=... python tools/locales.py    # lists it by key, with the English text; ends with 1 where something is missing

English needs no files: where a language has no text, the front end shows the node's own, and the player its own of web/js/texts.js. A
translation has a text for each of those, every number and path of the English one, and the terms of tools/glossary.json, which are those
of ComfyUI's own translation. ComfyUI does not translate a combo's options, so texts name them in English.

What templates and blueprints say is translated in web/templates/<language>.json, by its English: {"graphs": the templates' ids,
"blueprints": names of the blueprints' boxes, which stay, as the node library lists blueprints by them, "texts": {English: told}}.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from textwrap import shorten
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))
from launch import workflow  # noqa: E402
from launch.environment import PACK_NAME, REPO  # noqa: E402
from tools.comfyui import temporary_server  # noqa: E402

LOCALES = REPO / "locales"
GLOSSARY = REPO / "tools" / "glossary.json"
PLAYER = REPO / "web" / "js" / "texts.js"
TEMPLATES = REPO / "web" / "templates"
NOTES = ("MarkdownNote", "Note")

FACT = re.compile(r"\d+(?:\.\d+)?|'\w+'|\b[\w.]+_\w+|\bmodels/\w+")
"""What a translation must keep as it is: numbers, quoted options, names of files, folders and other nodes' inputs."""
KEPT = re.compile(r"^```\n.*?^```$|\*\d\d [^*]+\*|[\w-]+(?:/[\w-]+)+", re.MULTILINE | re.DOTALL)
"""And in a note: what is typed into a terminal, names of templates, paths."""


def of_pack(object_info: dict[str, dict]) -> dict[str, dict]:
    """This pack's nodes in an answer of /object_info; ValueError where there are none."""
    ours = {node_id: info for node_id, info in object_info.items() if info["python_module"] == f"custom_nodes.{PACK_NAME}"}
    if not ours:
        raise ValueError(f"this ComfyUI has no node of {PACK_NAME}. Look into its log for why the pack did not load.")
    return ours


def locale(object_info: dict[str, dict]) -> dict[str, dict]:
    """The files of a locale, by name, of the pack's nodes in an answer of /object_info; of its menu only what no other node's menu has."""
    ours = of_pack(object_info)
    others = {part for node_id, info in object_info.items() if node_id not in ours for part in info["category"].split("/")}
    categories = {part for info in ours.values() for part in info["category"].split("/")} - others
    main = {"nodeCategories": {part: part for part in sorted(categories)}, "imagesThatSound": {"player": player_texts()}}
    return {"nodeDefs": node_definitions(ours), "main": main}


def player_texts() -> dict[str, str]:
    """What the player says in English, by the keys that it asks for."""
    return dict(re.findall(r'^  (\w+): "(.*)",$', PLAYER.read_text(encoding="utf-8"), re.MULTILINE))


def node_definitions(object_info: dict[str, dict]) -> dict[str, dict]:
    """Translatable texts of each node in an answer of /object_info, in the shape of ComfyUI's nodeDefs.json."""
    return {node_id: _node_definition(info) for node_id, info in sorted(object_info.items())}


def _node_definition(info: dict) -> dict:
    inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {name: {"name": name, "tooltip": options[1]["tooltip"]} for name, options in inputs.items()},
        "outputs": {str(index): {"name": name, "tooltip": tooltip} for index, (name, tooltip) in enumerate(outputs)},
    }


def load(language: str) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((LOCALES / language).glob("*.json"))}


def texts(tree: Any, key: str = "") -> dict[str, str]:
    """The texts of nested dicts by their dotted keys."""
    if not isinstance(tree, dict):
        return {key: tree}
    return {name: text for child, value in tree.items() for name, text in texts(value, f"{key}.{child}" if key else child).items()}


def complaints(source: dict[str, dict], translation: dict[str, dict], terms: dict[str, str], same: list[str]) -> list[str]:
    """What is wrong with a translation, a line for each fault with its key and the English text.

    `terms` are English words or phrases and their translations: where the one stands in the English text, the other must stand in the
    translated one. Names of nodes, and those of a node's own inputs, are terms too, with the names that the translation gives them.
    `same` lists the texts that may stay English.
    """
    english, translated = texts(source), texts(translation)
    faults = [f"{key} is left over: English has no such text (any more)" for key in translated.keys() - english.keys()]
    node_terms = _node_names(source["nodeDefs"], translation.get("nodeDefs", {}))
    for key, text in english.items():
        told = translated.get(key)
        if not told:
            faults.append(f"{key} is missing: {text!r}")
            continue
        if told == text and text not in same:
            faults.append(f"{key} is not translated: {text!r}")
        if not key.endswith(("description", "tooltip")):
            continue  # a name need not repeat what a sentence must
        known = terms | node_terms | _input_names(translation["nodeDefs"][key.split(".")[1]])
        faults += [f"{key} {fault}" for fault in unkept(text, told, known)]
    return sorted(faults)


def unkept(text: str, told: str, known: dict[str, str]) -> list[str]:
    """What of an English text is not in its translation: the terms in `known`, as that translates them, and facts."""
    found = [term for term in known if re.search(rf"(?<![\w/]){re.escape(term)}s?(?!\.?\w)", text, re.IGNORECASE)]
    longest = [term for term in found if not any(term != other and term.lower() in other.lower() for other in found)]
    faults = [f"does not call {term!r} {known[term]!r}: {told!r}" for term in longest if known[term] not in told]
    return faults + [f"lacks {fact!r} of {text!r}" for fact in FACT.findall(text) if fact not in known and fact not in told]


def page_terms(node_id: str, source: dict[str, dict], translation: dict[str, dict], terms: dict[str, str]) -> dict[str, str]:
    """The terms of a node's help page and their translations: those of all texts, names of nodes, and of the node's own inputs."""
    return terms | _node_names(source, translation) | _input_names(translation[node_id])


def _node_names(source: dict[str, dict], translation: dict[str, dict]) -> dict[str, str]:
    """Translated display names by node id and by English display name."""
    names = {node_id: node["display_name"] for node_id, node in translation.items() if node_id in source and "display_name" in node}
    return names | {source[node_id]["display_name"]: name for node_id, name in names.items()}


def _input_names(node: dict) -> dict[str, str]:
    """Translated names of a node's inputs, of those whose ids are no plain words."""
    return {name: told["name"] for name, told in node.get("inputs", {}).items() if "_" in name and "name" in told}


def template_texts() -> dict[str, Any]:
    """What the templates and blueprints themselves say.

    {"graphs": ids of the templates, "blueprints": names of the blueprints' boxes, "texts": notes, titles of nodes and groups, names and
    slots of boxes}
    """
    graphs, blueprints = ([workflow.load(path) for path in sorted((REPO / folder).glob("*.json"))] for folder in ("workflows", "subgraphs"))
    boxes = [box for blueprint in blueprints for box in blueprint["definitions"]["subgraphs"]]
    said = [*chain.from_iterable(map(_said, graphs)), *chain.from_iterable(map(_said_in, boxes)), *chain.from_iterable(map(_slots, boxes))]
    names = [box["name"] for box in boxes]
    return {"graphs": [graph["id"] for graph in graphs], "blueprints": names, "texts": list(dict.fromkeys(said))}


def _said(graph: dict[str, Any]) -> Iterator[str]:
    boxes = graph.get("definitions", {}).get("subgraphs", [])
    for part in (graph, *boxes):
        yield from _said_in(part)
    for box in boxes:
        yield from (box["name"], *_slots(box))


def _said_in(part: dict[str, Any]) -> Iterator[str]:
    for node in part["nodes"]:
        yield from node["widgets_values"][:1] if node["type"] in NOTES else []
        yield from [node["title"]] if "title" in node else []
    yield from (group["title"] for group in part["groups"])


def _slots(box: dict[str, Any]) -> list[str]:
    return [slot.get("label", slot["name"]) for slot in (*box["inputs"], *box["outputs"])]


def template_complaints(english: dict[str, Any], told: dict[str, Any], terms: dict[str, str], same: list[str]) -> list[str]:
    """What is wrong with a translation of `template_texts`; `terms` and `same` as `complaints` takes them."""
    faults = [] if told["graphs"] == english["graphs"] else ["graphs are not the ids of the templates, in their order"]
    faults += [] if told["blueprints"] == english["blueprints"] else ["blueprints are not the names of their boxes, in their order"]
    faults += [
        f"{shorten(text, 60)!r} is left over: no template says it (any more)" for text in told["texts"].keys() - set(english["texts"])
    ]
    for text in english["texts"]:
        name, translation = shorten(text, 60), told["texts"].get(text)
        if not translation:
            faults.append(f"{name!r} is missing: a template's note, title or slot")
        elif translation == text and text not in same:
            faults.append(f"{name!r} is not translated")
        elif text.startswith("## "):
            faults += [f"{name!r} {fault}" for fault in unkept(KEPT.sub("", text), translation, terms)]
            faults += [f"{name!r} lacks {kept!r}" for kept in KEPT.findall(text) if kept not in translation]
    return sorted(faults)


def translations(source: dict[str, dict]) -> dict[str, list[str]]:
    """The faults of each translation of `locale`'s texts and of the templates', by its language."""
    glossary = json.loads(GLOSSARY.read_text(encoding="utf-8"))
    return {folder.name: _faults(source, folder.name, **glossary[folder.name]) for folder in sorted(LOCALES.iterdir())}


def _faults(source: dict[str, dict], language: str, terms: dict[str, str], same: list[str]) -> list[str]:
    translation = load(language)
    told = json.loads((TEMPLATES / f"{language}.json").read_text(encoding="utf-8"))
    nodes = translation["nodeDefs"]
    known = terms | _node_names(source["nodeDefs"], nodes)
    for node in nodes.values():
        known |= _input_names(node)
    faults = complaints(source, translation, terms, same)
    return faults + [f"web/templates: {fault}" for fault in template_complaints(template_texts(), told, known, same)]


def main() -> None:
    with temporary_server() as server:
        source = locale(server.get("/object_info"))
    faults = [f"{language}: {fault}" for language, told in translations(source).items() for fault in told]
    sys.exit("\n".join(faults) if faults else 0)


if __name__ == "__main__":
    main()
