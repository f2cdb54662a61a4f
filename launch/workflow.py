"""Templates, which are saved as the front end saves a graph, made into prompts as the server takes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .environment import QuickstartError

Prompt = dict[str, dict[str, Any]]

WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR", "BOUNDING_BOX", "COMFY_DYNAMICCOMBO_V3"}
FRONT_END_ONLY = {"Note", "MarkdownNote"}
MUTED = 2
SUBGRAPH_INPUTS = -10
"""Id of the node that stands, inside a subgraph, for the inputs of its box."""


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def to_prompt(workflow: dict[str, Any], object_info: dict[str, Any]) -> Prompt:
    """The API prompt of a saved graph, as the front end's own graphToPrompt makes it: links by origin, widgets by the order of the schema.

    What is inside a subgraph has the ids "box:node". Muted nodes are left out. Raises QuickstartError for a node type that the server does
    not have, and for bypassed nodes, which templates here do not use.
    """
    prompt: Prompt = {}
    for node_id, node, graph in _Graph(workflow, _definitions(workflow)).all_nodes():
        if node["type"] not in object_info:
            raise QuickstartError(f"the server has no node {node['type']!r}: is the pack loaded? Its log says why not")
        if node.get("mode", 0) != 0:
            raise QuickstartError(f"node {node_id} ({node['type']}) is bypassed, which cannot be converted")
        inputs = _widget_values(node, object_info[node["type"]])
        linked = {slot["name"]: graph.source(slot["link"]) for slot in node.get("inputs", []) if slot.get("link") is not None}
        inputs |= {name: source for name, source in linked.items() if source is not None}
        prompt[node_id] = {
            "class_type": node["type"],
            "inputs": inputs,
            "_meta": {"title": node.get("title") or object_info[node["type"]]["display_name"]},
        }
    return prompt


def all_nodes(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes of a saved graph and of the subgraphs that it defines, without the boxes that stand for these."""
    definitions = _definitions(workflow)
    return [node for graph in (workflow, *definitions.values()) for node in graph["nodes"] if node["type"] not in definitions]


def _definitions(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {subgraph["id"]: subgraph for subgraph in workflow.get("definitions", {}).get("subgraphs", [])}


class _Graph:
    """A saved graph, or what one box of its is made of."""

    def __init__(self, saved: dict[str, Any], definitions: dict[str, Any], prefix: str = "", outer: _Graph | None = None) -> None:
        self.saved, self.prefix, self.outer = saved, prefix, outer
        self.nodes = {node["id"]: node for node in saved["nodes"] if node.get("mode", 0) != MUTED}
        links = (link if isinstance(link, list) else [link[key] for key in ("id", "origin_id", "origin_slot")] for link in saved["links"])
        self.origins: dict[int, tuple[int, int]] = {link[0]: (link[1], link[2]) for link in links}
        self.box: dict[str, Any] | None = None
        self.insides: dict[int, _Graph] = {}
        for node_id, node in self.nodes.items():
            if node["type"] in definitions:
                self.insides[node_id] = _Graph(definitions[node["type"]], definitions, f"{prefix}{node_id}:", self)
                self.insides[node_id].box = node

    def all_nodes(self) -> Iterator[tuple[str, dict[str, Any], _Graph]]:
        """Each node that the server runs, with its id in the prompt and the graph that it is in."""
        for node_id, node in self.nodes.items():
            if node_id in self.insides:
                yield from self.insides[node_id].all_nodes()
            elif node["type"] not in FRONT_END_ONLY:
                yield f"{self.prefix}{node_id}", node, self

    def source(self, link: int) -> Any:
        """What a link brings: an origin [id, slot], the value of a box's widget, or None where the origin is muted or left open."""
        origin, slot = self.origins[link]
        if origin == SUBGRAPH_INPUTS:
            assert self.outer and self.box
            outside = self.box["inputs"][slot]
            if outside.get("link") is not None:
                return self.outer.source(outside["link"])
            widgets = [each["name"] for each in self.box["inputs"] if "widget" in each]
            return self.box["widgets_values"][widgets.index(outside["name"])] if "widget" in outside else None
        if origin in self.insides:
            inside = self.insides[origin]
            return inside.source(inside.saved["outputs"][slot]["linkIds"][0])
        return [f"{self.prefix}{origin}", slot] if origin in self.nodes else None


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


def id_of(prompt: Prompt, class_type: str) -> str:
    """The id of the one node of that class."""
    (node_id,) = (node_id for node_id, node in prompt.items() if node["class_type"] == class_type)
    return node_id


def node_of(prompt: Prompt, class_type: str) -> dict[str, Any]:
    """The inputs of the one node of that class."""
    return prompt[id_of(prompt, class_type)]["inputs"]


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
