"""Templates and blueprint in the real front end, in a real browser: nothing is missing, and our conversion is the front end's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from PIL import Image

from launch import workflow
from launch.environment import REPO
from launch.server import Server
from tools.locales import of_pack

TEMPLATES = sorted((REPO / "workflows").glob("*.json"))

OVERLAPS = """() => {
  const boxes = window.app.graph.nodes.map(node => [node.title, ...node.getBounding(new Float32Array(4))]);
  const meet = ([, x, y, width, height], [, x2, y2, width2, height2]) =>
    x < x2 + width2 && x2 < x + width && y < y2 + height2 && y2 < y + height;
  return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b => meet(a, b)).map(b => `${a[0]} / ${b[0]}`));
}"""

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(open_page: Callable[..., Any]) -> Any:
    return open_page()


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_template_opens_and_makes_the_prompt_that_quickstart_sends(
    template: Path, page: Any, object_info: dict[str, Any], tmp_path: Path
) -> None:
    page.evaluate("graph => window.app.loadGraphData(graph)", workflow.load(template))
    missing = page.evaluate("window.app.graph.nodes.filter(n => !(n.type in window.LiteGraph.registered_node_types)).map(n => n.type)")
    assert missing == []
    page.screenshot(path=tmp_path / f"{template.stem}.png")
    assert page.evaluate(OVERLAPS) == []

    theirs = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    ours = workflow.to_prompt(workflow.load(template), object_info)
    assert theirs.keys() == ours.keys()
    for node_id, node in ours.items():
        inputs = {name: value for name, value in theirs[node_id]["inputs"].items() if name in known_inputs(object_info[node["class_type"]])}
        assert inputs == node["inputs"], node["class_type"]


SHOWN = """ids => ids.map(id => {
  const node = window.LiteGraph.createNode(id);
  return [id, [node.title, node.constructor.nodeData.description, node.inputs.map(input => [input.name, input.localized_name])]];
})"""


def test_without_english_files_nodes_show_the_texts_of_their_schemas(page: Any, object_info: dict[str, Any]) -> None:
    ours = of_pack(object_info)
    for node_id, (title, description, inputs) in page.evaluate(SHOWN, list(ours)):
        info = ours[node_id]
        assert (title, description) == (info["display_name"], info["description"])
        assert all(name == shown for name, shown in inputs), node_id


SAVERS = {"SaveImage": "blueprint/picture", "SaveAudio": "blueprint/sound", "SaveVideo": "blueprint/video"}
CHANGES = {"image_prompt": "a drawing of a ship", "audio_prompt": "trumpet", "seconds": 2.56, "seed": 7}
WIRE = """([savers, changes]) => {
  const [box] = window.app.graph.nodes;
  Object.entries(savers).forEach(([type, prefix], slot) => {
    const saver = window.LiteGraph.createNode(type);
    window.app.graph.add(saver);
    box.connect(slot, saver, 0);
    saver.widgets.find(widget => widget.name === "filename_prefix").value = prefix;
  });
  for (const [name, value] of Object.entries(changes)) box.widgets.find(widget => widget.name === name).value = value;
}"""


def test_the_blueprint_makes_picture_sound_and_video_of_what_is_written_in_its_box(page: Any, server: Server) -> None:
    page.evaluate("graph => window.app.loadGraphData(graph)", workflow.load(REPO / "subgraphs" / "Images that Sound.json"))
    page.evaluate(WIRE, [SAVERS, CHANGES])
    prompt = page.evaluate("async () => (await window.app.graphToPrompt()).output")

    sampler = workflow.node_of(prompt, "MultimodalKSampler")
    assert sampler["seed"] == CHANGES["seed"]
    for side in ("image", "audio"):
        written, encoder = CHANGES[f"{side}_prompt"], prompt[sampler[f"{side}_positive"][0]]["inputs"]
        assert workflow.value(prompt, encoder, "text") == written
        assert workflow.value(prompt, workflow.node_of(prompt, "PlayheadVideo"), f"{side}_prompt") == written

    sampler["steps"] = 2
    list(server.run(prompt))
    picture, sound, video = (next(server.output.glob(f"{prefix}_*")) for prefix in SAVERS.values())
    columns = round(100 * CHANGES["seconds"]) - 32  # Trim Canvas
    assert Image.open(picture).size == (columns, 256)
    assert soundfile.info(sound).frames == 160 * columns
    assert video.stat().st_size > 0


def known_inputs(info: dict[str, Any]) -> set[str]:
    """Without the widgets that the front end adds for itself, such as an upload button."""
    return {name for names in info["input_order"].values() for name in names}


def test_a_saved_pair_is_seen_and_heard_in_its_node(page: Any) -> None:
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "chelsea.png"}},
        "2": {"class_type": "LoadAudio", "inputs": {"audio": "loop_garzul.flac"}},
        "3": {"class_type": "SaveImageThatSounds", "inputs": {"image": ["1", 0], "audio": ["2", 0], "filename_prefix": "seen/heard"}},
    }
    page.evaluate("prompt => window.app.loadApiJson(prompt, 'pair')", prompt)
    page.evaluate("() => window.app.queuePrompt(0)")
    saver = "window.app.graph.nodes.find(node => node.type === 'SaveImageThatSounds')"
    sound = f"{saver}.widgets.find(widget => widget.name === 'audioUI').element"
    page.wait_for_function(f"() => {saver}.imgs?.[0].naturalWidth && {sound}.duration")
    assert page.evaluate(f"{saver}.imgs[0].naturalWidth") == 451
    assert page.evaluate(f"{sound}.duration") == pytest.approx(8.0, abs=0.01)
    assert "heard_00001_.png" in page.evaluate(f"{saver}.imgs[0].src")
    assert "heard_00001_.flac" in page.evaluate(f"{sound}.src")
