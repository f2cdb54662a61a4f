"""Every template can be read and used as it opens on a laptop's screen and after a run, in both renderers, on both front ends.

The beginners' templates (0x) open in all four ways, each of the others in one, in turn; all of them in all four ways:

    python3 quickstart.py --test tests/comfyui/test_template_layout.py -m "sweep or not sweep"
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

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
SAMPLERS = ["KSampler", "MultimodalKSampler", "SamplerCustomAdvanced", "KeeperSearch", "SDSBaseline", "FactorizedColorize"]
RUN = """async ([picture, sound, video, samplers]) => {
  // What a run shows, without its work: the previews of samplers, and the pictures, sounds and videos of what saves and plays them.
  const {app, comfyAPI: {api: {api}}} = window;
  const of = filename => ({filename, subfolder: "", type: "input"});
  const [images, audio] = [[of(picture)], [of(sound)]];
  const item = {picture: images[0], sound: audio[0], sample_rate: 16000, seconds: 10.24, picture_seconds: 10.24, is_spectrogram: true};
  const outputs = {
    PreviewImage: {images}, SaveImageThatSounds: {images, audio}, PreviewAudio: {audio},
    SaveVideo: {images: [of(video)], animated: [true]}, PreviewAny: {text: ["a report\\nof two lines"]},
    PlayImage: {player: [item], row_hertz: [[...Array(256).keys()]]},
  };
  const blob = await (await api.fetchApi(`/view?${new URLSearchParams(of(picture))}`)).blob();
  const show = (graph, boxes) => graph.nodes.forEach(node => {
    const ids = [...boxes, node.id], id = ids.join(":"), named = {nodeId: id, displayNodeId: id, parentNodeId: id, realNodeId: id};
    if (samplers.includes(node.type)) api.dispatchCustomEvent("b_preview_with_metadata", {blob, ...named, jobId: "a", promptId: "a"});
    if (outputs[node.type]) api.dispatchCustomEvent("executed", {node: id, display_node: id, output: outputs[node.type], prompt_id: "a"});
    if (node.subgraph) show(node.subgraph, ids);
  });
  show(app.graph, []);
  await new Promise(done => setTimeout(done, 500));
}"""
OUTGROWN = """samplers => {
  // Nodes that stand in a group's frame and out of it. A sampler is let: its preview hangs below.
  const {app, LiteGraph} = window, {ds} = app.canvas, edge = app.canvas.canvas.getBoundingClientRect();
  const onGraph = ({left, top, right, bottom}) => [left, right, top, bottom].map((at, i) =>
    (at - (i < 2 ? edge.left : edge.top)) / ds.scale - ds.offset[i < 2 ? 0 : 1]);
  const box = node => {
    if (LiteGraph.vueNodesMode) return onGraph(document.querySelector(`[data-node-id="${node.id}"]`).getBoundingClientRect());
    const [x, y, width, height] = node.getBounding(new Float32Array(4));
    return [x, x + width, y, y + height];
  };
  const out = ([left, right, top, bottom], {pos: [x, y], size: [width, height]}) =>
    left < x + width && x < right && top < y + height && y < bottom &&
    (left < x - 2 || right > x + width + 2 || top < y - 2 || bottom > y + height + 2);
  const nodes = app.graph.nodes.filter(node => !samplers.includes(node.type));
  return nodes.flatMap(node => app.graph.groups.filter(group => out(box(node), group)).map(group => `${node.title} / ${group.title}`));
}"""
SQUARE = ("14 Square spectrogram", "28 SD15 and Riffusion")
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
            _shown(request.getfixturevalue("newest_server" if "newest" in opener else "server").base / "input")
        return opened[opener, renderer]

    return page_of


def _shown(folder: Path) -> None:
    """Pictures of both shapes, a sound and a video, as a run makes them."""
    Image.new("L", (1024, 256)).save(folder / "wide.png")
    Image.new("L", (512, 512)).save(folder / "square.png")
    soundfile.write(folder / "silence.flac", np.zeros(163840, np.float32), 16000)
    shutil.copyfile(REPO / "docs" / "first.mp4", folder / "first.mp4")


@pytest.mark.parametrize(("template", "opener", "renderer"), cases())
def test_a_template_opens_legible_with_prompts_and_player_in_sight_and_nothing_overlaps_then_or_after_a_run(
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

    page.evaluate(RUN, ["square.png" if template.stem in SQUARE else "wide.png", "silence.flac", "first.mp4", SAMPLERS])
    page.evaluate(SETTLED)
    page.screenshot(path=tmp_path / "ran.png")
    assert page.evaluate(OVERLAPS) == []
    assert page.evaluate(OUTGROWN, SAMPLERS) == []
