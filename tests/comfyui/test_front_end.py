"""Templates and blueprint in the real front end, in a real browser: nothing is missing, and our conversion is the front end's own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
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
READABLE = 4.5
"""Contrast from which small text can be read (WCAG 2, level AA)."""

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


FEWER = """photo => {
  // Two steps of 2.56 s, from a photo where the box asks for one; the box in sight.
  const [box] = window.app.graph.nodes;
  Object.assign(window.app.canvas.ds, {scale: 1, offset: [150, 100]});
  const set = (node, name, value) => { node.widgets.find(widget => widget.name === name).value = value; };
  set(box, "seconds", 2.56);
  set(box.subgraph.nodes.find(node => node.type === "MultimodalKSampler"), "steps", 2);
  const slot = box.inputs.findIndex(input => input.type === "IMAGE");
  if (slot < 0) return;
  const loader = window.LiteGraph.createNode("LoadImage");
  window.app.graph.add(loader);
  set(loader, "image", photo);
  loader.connect(0, box, slot);
}"""


@pytest.mark.parametrize("name", ["Images that Sound", "Your Photo that Sounds"])
def test_a_blueprint_alone_runs_and_plays_in_its_box(name: str, page: Any) -> None:
    page.evaluate("graph => window.app.loadGraphData(graph)", workflow.load(REPO / "subgraphs" / f"{name}.json"))
    page.evaluate(FEWER, "chelsea.png")
    page.evaluate("() => window.app.queuePrompt(0)")
    page.locator(".its-player:visible .its-player-play:not([disabled])").click()
    page.locator(".its-player:visible .its-player-play[title^='Pause']").click()


def known_inputs(info: dict[str, Any]) -> set[str]:
    """Without the widgets that the front end adds for itself, such as an upload button."""
    return {name for names in info["input_order"].values() for name in names}


SAYS = """() => {
  // Titles, notes and group titles of the graph and its boxes, and the boxes' slots.
  const {app} = window, all = [app.graph, ...app.graph.subgraphs.values()];
  return {
    titles: all.flatMap(graph => graph.nodes.map(node => node.title)),
    notes: app.graph.nodes.filter(node => node.type === "MarkdownNote").map(node => node.widgets[0].value),
    groups: all.flatMap(graph => graph.groups.map(group => group.title)),
    slots: app.graph.nodes.filter(node => node.subgraph).flatMap(node => [...node.inputs, ...node.outputs].map(slot => slot.label)),
  };
}"""
CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture
def chinese(request: pytest.FixtureRequest, open_at: Callable[..., Any]) -> Iterator[Any]:
    """A page of a front end in Chinese."""
    running = request.getfixturevalue(request.param)
    running.post("/settings", {"Comfy.TutorialCompleted": True, "Comfy.Locale": "zh"})
    page = open_at(running.url)
    yield page
    page.close()
    running.post("/settings", {"Comfy.Locale": "en"})


@pytest.mark.parametrize("chinese", ["server", "newest_server"], indirect=True)
def test_where_comfyui_speaks_chinese_the_templates_do_and_what_a_user_wrote_stays(chinese: Any) -> None:
    template = workflow.load(REPO / "workflows" / "01 Picture that sounds.json")
    opened = "async graph => { await window.app.loadGraphData(graph); return (" + SAYS + ")(); }"
    said = chinese.evaluate(opened, template)
    texts = [text for kind in said.values() for text in kind if text not in ("vae", "clip", "Latent")]
    assert texts and [text for text in texts if not CHINESE.search(text)] == []
    assert "点击运行" in said["notes"][0] and said["groups"] == ["1 · 改这些词"] and "图像模型" in said["slots"]
    assert "a drawing of castles" in chinese.evaluate("() => window.app.graph.nodes.flatMap(node => node.widgets ?? []).map(w => w.value)")

    saved = json.loads(chinese.evaluate("() => JSON.stringify(window.app.graph.serialize())"))
    assert chinese.evaluate(opened, saved) == said
    template["nodes"][0] |= {"title": "Start here!", "widgets_values": [template["nodes"][0]["widgets_values"][0] + "Mine."]}
    template["groups"][0]["title"] = "My words"
    changed = chinese.evaluate(opened, template)
    assert changed["titles"][0] == "Start here!" and changed["notes"][0].endswith("Mine.") and changed["groups"] == ["My words"]
    own = workflow.load(REPO / "workflows" / "27 Three methods compared.json") | {"id": "00000000-0000-4000-8000-000000000000"}
    assert "SDS: save" in chinese.evaluate(opened, own)["titles"]


FROM_THE_LIBRARY = """async blueprint => {
  // As the node library puts a blueprint onto the canvas.
  const {app} = window, items = {nodes: blueprint.nodes, subgraphs: blueprint.definitions.subgraphs};
  app.graph.clear();
  app.canvas._deserializeItems(items, {position: [0, 0]});
  await new Promise(done => setTimeout(done, 200));
}"""


@pytest.mark.parametrize("name", ["Images that Sound", "Your Photo that Sounds"])
@pytest.mark.parametrize("chinese", ["server", "newest_server"], indirect=True)
def test_a_blueprint_speaks_chinese_too_inside_its_box_and_in_its_slots(chinese: Any, name: str) -> None:
    blueprint = workflow.load(REPO / "subgraphs" / f"{name}.json")
    chinese.evaluate(FROM_THE_LIBRARY, blueprint)
    said = chinese.evaluate(SAYS)
    assert [text for text in said["titles"] + said["slots"] if not CHINESE.search(text)] == [name]
    widgets = chinese.evaluate("() => window.app.graph.nodes[0].widgets.map(widget => widget.label ?? widget.name)")
    assert {"听起来像", "秒数", "种子"} <= set(widgets)

    blueprint["definitions"]["subgraphs"][0]["nodes"][0]["title"] = "My own"
    chinese.evaluate(FROM_THE_LIBRARY, blueprint)
    assert "My own" in chinese.evaluate(SAYS)["titles"]


CONTRAST = """name => {
    const luminance = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const rgba = colour => [...(colour.match(/[\\d.]+/g) || []).map(Number), 1].slice(0, 4);
    const behind = element => {
        if (!element) return [0, 0, 0];
        const [r, g, b, alpha] = rgba(window.getComputedStyle(element).backgroundColor);
        const below = alpha < 1 ? behind(element.parentElement) : [0, 0, 0];
        return [r, g, b].map((c, i) => alpha * c + (1 - alpha) * below[i]);
    };
    return [...document.querySelectorAll("code, p")].filter(e => e.textContent.includes(name)).map(e => {
        const pair = [rgba(window.getComputedStyle(e).color).slice(0, 3), behind(e)].map(luminance).sort((a, b) => b - a);
        return (pair[0] + 0.05) / (pair[1] + 0.05);
    });
}"""
"""Of each paragraph and piece of code with some text in it: how its colour contrasts with what lies behind it (WCAG 2)."""


@pytest.mark.parametrize("front_end", ["open_page", "open_newest_page"])
def test_without_its_models_a_template_offers_the_file_and_its_note_the_command_for_the_folder(
    front_end: str, request: pytest.FixtureRequest
) -> None:
    """The front end lists what a box names where that ends as a model's file does; a folder it leaves out."""
    page = request.getfixturevalue(front_end)()
    graph = workflow.load(REPO / "workflows" / "21 SD15 and Auffusion.json")
    for renderer in (False, True):
        page.evaluate("on => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", renderer)
        page.evaluate("graph => window.app.loadGraphData(graph)", graph)
        page.evaluate("Object.assign(window.app.canvas.ds, { scale: 1, offset: [300, 200] })")
        page.wait_for_function("document.querySelector('code')", timeout=30_000)
        for text in ("python fetch.py sd15 auffusion", "Choose a pair"):
            seen = page.evaluate(CONTRAST, text)
            assert seen and min(seen) >= READABLE
    page.evaluate("window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")
    page.get_by_text("View details").first.click()
    page.get_by_text("Download", exact=True).first.wait_for(timeout=30_000)
    assert "v1-5-pruned-emaonly-fp16.safetensors" in page.inner_text("body")
    page.close()


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


WANTED = {
    "audio to image": "Audio to Spectrogram",
    "sound to picture": "Audio to Spectrogram",
    "picture to audio": "Spectrogram to Audio",
    "image to sound": "Spectrogram to Audio",
    "spectrogram": "Spectrogram to Audio",
    "hidden picture": "Imprint Recording",
    "hide a picture in a song": "Imprint Recording",
}
FIRST_THREE = (
    """() => [...document.querySelectorAll('[data-testid="result-item"], [role=option]')].slice(0, 3).map(found => found.innerText)"""
)


@pytest.mark.parametrize("opener", ["open_page", "open_newest_page"])
def test_what_a_user_would_type_finds_the_right_node_among_the_first_three(opener: str, request: pytest.FixtureRequest) -> None:
    page = request.getfixturevalue(opener)()
    page.evaluate("() => window.app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    box = page.locator("input:focus")
    for phrase, node in WANTED.items():
        box.fill("no node is called this")
        page.wait_for_function(f"() => ({FIRST_THREE})().length === 0")
        box.fill(phrase)
        page.wait_for_function(f"node => ({FIRST_THREE})().some(found => found.startsWith(node))", arg=node, timeout=10_000)
    page.close()
