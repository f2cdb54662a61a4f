"""Templates, which are saved as the front end saves a graph, made into prompts as the server takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .environment import QuickstartError

Prompt = dict[str, dict[str, Any]]

WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR", "BOUNDING_BOX", "COMFY_DYNAMICCOMBO_V3"}
FRONT_END_ONLY = {"Note", "MarkdownNote"}
MUTED = 2


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def to_prompt(workflow: dict[str, Any], object_info: dict[str, Any]) -> Prompt:
    """The API prompt of a saved graph, as the front end's own graphToPrompt makes it: links by origin, widgets by the order of the schema.

    Muted nodes are left out. Raises QuickstartError for a node type that the server does not have, and for bypassed and sub-graph nodes,
    which templates here do not use.
    """
    muted = {node["id"] for node in workflow["nodes"] if node.get("mode", 0) == MUTED}
    origins = {link[0]: [str(link[1]), link[2]] for link in workflow["links"] if link[1] not in muted}
    prompt: Prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in FRONT_END_ONLY or node["id"] in muted:
            continue
        if node["type"] not in object_info:
            raise QuickstartError(f"the server has no node {node['type']!r}: is the pack loaded? Its log says why not")
        if node.get("mode", 0) != 0:
            raise QuickstartError(f"node {node['id']} ({node['type']}) is bypassed, which cannot be converted")
        inputs = _widget_values(node, object_info[node["type"]])
        inputs |= {slot["name"]: origins[slot["link"]] for slot in node.get("inputs", []) if slot.get("link") in origins}
        prompt[str(node["id"])] = {
            "class_type": node["type"],
            "inputs": inputs,
            "_meta": {"title": node.get("title") or object_info[node["type"]]["display_name"]},
        }
    return prompt


def _widget_values(node: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """Widgets have one saved value each, in the schema's order; a seed has a second one, what becomes of it after a run."""
    saved = iter(node.get("widgets_values") or [])
    values: dict[str, Any] = {}
    for group in ("required", "optional"):
        for name in info["input_order"].get(group, []):
            kind, options = (*info["input"][group][name], {})[:2]
            if not (isinstance(kind, list) or kind in WIDGET_TYPES) or options.get("forceInput"):
                continue
            value = next(saved, options.get("default"))
            if value is not None:
                values[name] = value
            if options.get("control_after_generate") or name in ("seed", "noise_seed"):
                next(saved, None)
    return values


def node_of(prompt: Prompt, class_type: str) -> dict[str, Any]:
    """The inputs of the one node of that class."""
    (inputs,) = (node["inputs"] for node in prompt.values() if node["class_type"] == class_type)
    return inputs


def value(prompt: Prompt, inputs: dict[str, Any], name: str) -> Any:
    """An input's value; where a link feeds it, the text or value at the link's far end."""
    inputs, name = _far_end(prompt, inputs, name)
    return inputs[name]


def set_value(prompt: Prompt, inputs: dict[str, Any], name: str, new: Any) -> None:
    """Set an input; where a link feeds it, the text or value at the link's far end, so that every node that reads it sees the new one."""
    inputs, name = _far_end(prompt, inputs, name)
    inputs[name] = new


def _far_end(prompt: Prompt, inputs: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    while isinstance(inputs[name], list):
        inputs = prompt[inputs[name][0]]["inputs"]
        name = next(key for key in ("text", "value") if key in inputs)
    return inputs, name
