"""Every template can be read and used as it opens on a laptop's screen, in both renderers, on both front ends.

The beginners' templates (0x) open in all four ways, each of the others in one, in turn; all of them in all four ways:

    python3 quickstart.py --test tests/comfyui/test_template_layout.py -m "sweep or not sweep"
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch import workflow
from launch.environment import REPO

TEMPLATES = sorted((REPO / "workflows").glob("*.json"))
LAPTOP = {"width": 1440, "height": 900}
LEGIBLE = 0.6
"""Scale of the graph above which the front end draws text."""
WAYS = [(opener, renderer) for opener in ("open_page", "open_newest_page") for renderer in ("classic", "nodes 2.0")]
ELSEWHERE = "huggingface.co"
"""The front end asks there how large a missing model is, which its own server forbids it."""

SETTLED = """async () => {
  // Nodes grow with their texts, pictures and players; Nodes 2.0 measures them one after the other.
  const {app, LiteGraph} = window;
  const sizes = () => JSON.stringify(LiteGraph.vueNodesMode
    ? [...document.querySelectorAll("[data-node-id]")].map(e => Math.round(e.getBoundingClientRect().height))
    : app.graph.nodes.map(node => [...node.size]));
  const all = () => !LiteGraph.vueNodesMode || document.querySelectorAll("[data-node-id]").length >= app.graph.nodes.length;
  for (let before = "", still = 0; still < 4; still = all() && sizes() === before ? still + 1 : 0) {
    before = sizes();
    await new Promise(done => setTimeout(done, 100));
  }
}"""
OVERLAPS = """() => {
  const {app, LiteGraph} = window;
  const drawn = node => document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect();
  const box = node => LiteGraph.vueNodesMode ? drawn(node) : new DOMRect(...node.getBounding(new Float32Array(4)));
  const boxes = app.graph.nodes.map(node => [node.title, box(node)]);
  const meet = ([, a], [, b]) => a.left + 1 < b.right && b.left + 1 < a.right && a.top + 1 < b.bottom && b.top + 1 < a.bottom;
  return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b => meet(a, b)).map(b => `${a[0]} / ${b[0]}`));
}"""
OUT_OF_SIGHT = """prompts => {
  const inSight = element => {
    const {left, top, right, bottom, width} = element.getBoundingClientRect();
    return width > 0 && left >= 0 && top >= 0 && right <= window.innerWidth && bottom <= window.innerHeight;
  };
  const boxes = [...document.querySelectorAll("textarea")].filter(inSight).map(box => box.value);
  const players = [...document.querySelectorAll(".its-player-play")];
  return [...prompts.filter(prompt => !boxes.includes(prompt)), ...players.filter(player => !inSight(player)).map(() => "a player")];
}"""
PLAYERS = "() => document.querySelectorAll('.its-player-play').length"
DEPRECATED = "() => window.app.graph.nodes.filter(node => node.constructor.nodeData?.deprecated).map(node => node.type)"

pytestmark = pytest.mark.browser


def prompts(graph: dict[str, Any]) -> list[str]:
    """What stands in the text boxes of a saved graph that are open, and not fed by a link."""
    texts = [node for node in graph["nodes"] if node["type"] in ("CLIPTextEncode", "PrimitiveStringMultiline")]
    return [node["widgets_values"][0] for node in texts if not node["flags"] and "widget" not in str(node["inputs"])]


def cases() -> list[Any]:
    """Each template in each way; those that the ordinary suite leaves out are marked."""
    every: list[Any] = []
    for number, template in enumerate(TEMPLATES):
        for way, (opener, renderer) in enumerate(WAYS):
            ordinary = template.stem.startswith("0") or number % len(WAYS) == way
            marks = [] if ordinary else [pytest.mark.sweep]
            front_end = "newest" if "newest" in opener else "own"
            every.append(pytest.param(template, opener, renderer, marks=marks, id=f"{template.stem}, {renderer}, {front_end} front end"))
    return every


@pytest.fixture(scope="module")
def pages(request: pytest.FixtureRequest) -> Callable[[str, str], tuple[Any, list[str]]]:
    """Opens each front end in each renderer once: the page, and the errors that it has told of."""
    opened: dict[tuple[str, str], tuple[Any, list[str]]] = {}

    def page_of(opener: str, renderer: str) -> tuple[Any, list[str]]:
        if (opener, renderer) not in opened:
            page = request.getfixturevalue(opener)(viewport=LAPTOP)
            page.evaluate("on => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", renderer == "nodes 2.0")
            errors: list[str] = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
            opened[opener, renderer] = page, errors
        return opened[opener, renderer]

    return page_of


@pytest.mark.parametrize(("template", "opener", "renderer"), cases())
def test_a_template_opens_legible_with_prompts_and_player_in_sight_and_nothing_overlapping(
    template: Path, opener: str, renderer: str, pages: Callable[[str, str], tuple[Any, list[str]]], tmp_path: Path
) -> None:
    page, errors = pages(opener, renderer)
    graph = workflow.load(template)
    errors.clear()
    page.evaluate("graph => window.app.loadGraphData(graph)", graph)
    page.evaluate(SETTLED)
    page.screenshot(path=tmp_path / "opened.png")
    assert page.evaluate("window.app.canvas.ds.scale") >= LEGIBLE
    assert page.evaluate(OVERLAPS) == []
    assert page.evaluate(OUT_OF_SIGHT, prompts(graph)) == []
    assert page.evaluate(PLAYERS) == sum(node["type"] == "PlayImage" for node in graph["nodes"])
    assert page.evaluate(DEPRECATED) == []
    assert [error for error in errors if ELSEWHERE not in error] == []
