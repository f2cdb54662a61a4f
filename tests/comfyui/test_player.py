"""The player of PlayImage in a real browser: the line is where the sound is, and hand, keyboard, reload and lost files find it ready.

The sound is a ramp, whose every sample tells the time that it belongs to: read at the audio graph's end, it says what the browser plays.
"""

from __future__ import annotations

import io
import json
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from itsound_core.playhead import LINE_COLOUR
from itsound_core.spectrogram import band_frequencies
from launch.server import Server

pytestmark = pytest.mark.browser

RATE, SECONDS, SHORT_SECONDS = 16000, 10.24, 8.0
IN_STEP = 0.020
LIMIT = 60.0
READY_TO_PLAY = ".its-player-play:not([disabled])"

TAP = """{
  // What goes to the loudspeaker, readable; and each console error, with the errors that nobody caught.
  const connect = AudioNode.prototype.connect;
  AudioNode.prototype.connect = function (target, ...rest) {
    if (target instanceof AudioDestinationNode) {
      window.tap = new AnalyserNode(this.context, {fftSize: 32});
      connect.call(this, window.tap);
    }
    return connect.call(this, target, ...rest);
  };
}"""

WATCH = """async ([wanted, seconds]) => {
  // For each frame: seconds at which the line stands, seconds of the sample that the loudspeaker gets, both now.
  const stage = document.querySelector('.its-player-stage'), line = document.querySelector('.its-player-line');
  const volume = document.querySelector('.its-player input').valueAsNumber ** 2;
  const samples = new Float32Array(32), frames = [];
  for (const end = performance.now() + 1000 * wanted; performance.now() < end; ) {
    await new Promise(requestAnimationFrame);
    window.tap.getFloatTimeDomainData(samples);
    const [place, edge] = [line.getBoundingClientRect(), stage.getBoundingClientRect()];
    const shown = (place.left + place.width / 2 - edge.left) / edge.width * seconds;
    frames.push([shown, samples[31] / volume * seconds - window.tap.context.outputLatency]);
  }
  return frames;
}"""

STATE = """() => {
  const player = document.querySelector('.its-player');
  return {
    seconds: Number(player.querySelector('[role=slider]').ariaValueNow),
    told: player.querySelector('[role=slider]').ariaValueText,
    playing: player.querySelector('.its-player-play').ariaLabel.startsWith('Pause'),
    looping: player.querySelector('.its-player-loop').ariaPressed === 'true',
    view: player.querySelector('select').value,
    message: player.querySelector('[role=status]').textContent,
    pointer: player.querySelector('.its-player-pointer').textContent,
  };
}"""


def graph(picture: str, sound: str, view: str = "none") -> dict[str, Any]:
    """Load Image and Load Audio into Play Image, as the front end saves it, with an id of its own."""

    def node(number: int, kind: str, inputs: list[dict], outputs: list[dict], values: list) -> dict[str, Any]:
        place = {"pos": [400 * (number - 1), 100], "size": [460 if number == 3 else 300, 340], "order": number - 1}
        rest = {"flags": {}, "mode": 0, "properties": {}, "inputs": inputs, "outputs": outputs, "widgets_values": values}
        return {"id": number, "type": kind, **place, **rest}

    image, audio = {"name": "image", "type": "IMAGE", "link": 1}, {"name": "audio", "type": "AUDIO", "link": 2}
    return {
        "id": str(uuid.uuid4()),
        "nodes": [
            node(1, "LoadImage", [], [{"name": "IMAGE", "type": "IMAGE", "links": [1]}], [picture, "image"]),
            node(2, "LoadAudio", [], [{"name": "AUDIO", "type": "AUDIO", "links": [2]}], [sound, None, ""]),
            node(3, "PlayImage", [image, audio], [], [view]),
        ],
        "links": [[1, 1, 0, 3, 0, "IMAGE"], [2, 2, 0, 3, 1, "AUDIO"]],
        "last_node_id": 3,
        "last_link_id": 2,
        "version": 0.4,
    }


@pytest.fixture(scope="module")
def page(open_page: Callable[..., Any], server: Server) -> Iterator[Any]:
    with player_page(open_page, server) as page:
        yield page


@pytest.fixture(scope="module")
def newest_page(open_newest_page: Callable[..., Any], newest_server: Server) -> Iterator[Any]:
    with player_page(open_newest_page, newest_server) as page:
        yield page


@contextmanager
def player_page(open_page: Callable[..., Any], server: Server) -> Iterator[Any]:
    """ComfyUI with a black spectrogram of 10.24 s with a white band, and ramps from 0 to 1: as long as it, and shorter."""
    picture = np.zeros((256, 1024), np.uint8)
    picture[100:110] = 200
    Image.fromarray(picture).save(server.base / "input" / "band.png")
    Image.fromarray(np.zeros((512, 512), np.uint8)).save(server.base / "input" / "square.png")
    for name, seconds in (("ramp", SECONDS), ("short", SHORT_SECONDS)):
        ramp = np.arange(round(RATE * seconds)) / round(RATE * seconds)
        soundfile.write(server.base / "input" / f"{name}.flac", ramp.astype(np.float32), RATE)
    page = open_page(TAP)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    yield page
    use_renderer(page, new=False)
    page.close()


def use_renderer(page: Any, new: bool) -> None:
    change_setting(page, "Comfy.VueNodes.Enabled", new)


def change_setting(page: Any, name: str, value: Any) -> None:
    page.evaluate("([name, value]) => window.app.extensionManager.setting.set(name, value)", [name, value])


def run(page: Any, saved: dict[str, Any], ready: str = READY_TO_PLAY) -> None:
    """Open a graph at full size and press Run; until the player is ready."""
    page.evaluate("graph => window.app.loadGraphData(graph)", saved)
    page.evaluate("() => { Object.assign(window.app.canvas.ds, {scale: 1, offset: [150, 100]}); window.app.canvas.setDirty(true, true); }")
    page.errors.clear()
    page.evaluate("() => window.app.queuePrompt(0)")
    page.wait_for_selector(ready)


def point(page: Any, across: float, down: float = 0.5) -> tuple[float, float]:
    box = page.locator(".its-player-stage").bounding_box()
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


def line_column(page: Any) -> float:
    """Where the line is in what the browser has painted, 0 the left edge, 1 the right."""
    shot = Image.open(io.BytesIO(page.locator(".its-player-stage").screenshot())).convert("RGB")
    distance = np.abs(np.asarray(shot).astype(int) - LINE_COLOUR).sum(-1).mean(0)
    assert distance.min() < 60, "no line is to be seen"
    return float(distance.argmin() + 0.5) / shot.width


@pytest.mark.parametrize("new", [False, True], ids=["classic canvas", "Nodes 2.0"])
def test_after_run_the_line_moves_with_the_sound(page: Any, new: bool) -> None:
    use_renderer(page, new)
    run(page, graph("band.png", "ramp.flac"))
    assert page.evaluate(STATE)["told"] == "0.0 of 10.2 seconds"
    assert line_column(page) < 0.02
    page.evaluate("() => { window.app.graph.getNodeById(3).setSize([700, 300]); window.app.canvas.setDirty(true, true); }")
    page.wait_for_function("() => document.querySelector('.its-player-stage').offsetWidth > 650")
    picture, node = page.locator(".its-player-stage").bounding_box(), page.evaluate("[...window.app.graph.getNodeById(3).size]")
    assert picture["width"] / picture["height"] == pytest.approx(4, rel=0.01)
    assert node[1] > picture["height"] + 60, "the node has grown with its picture"

    page.locator(".its-player-play").click()
    page.wait_for_function(f"() => ({STATE})().seconds > 0.3")
    frames = page.evaluate(WATCH, [2.0, SECONDS])
    assert abs(statistics.median(shown - heard for shown, heard in frames)) < IN_STEP
    assert line_column(page) > frames[-1][0] / SECONDS > frames[0][0] / SECONDS + 0.1
    assert page.errors == []


def test_the_line_runs_over_both_rows_of_a_square(page: Any) -> None:
    use_renderer(page, new=False)
    run(page, graph("square.png", "ramp.flac", "two-row square"))
    stage, line = (page.locator(f".its-player-{part}") for part in ("stage", "line"))
    for down, seconds in ((0.25, 0.25), (0.75, 0.75)):
        page.mouse.move(*point(page, 0.5, down))
        page.mouse.down()
        assert page.evaluate(STATE)["seconds"] == pytest.approx(seconds * SECONDS, abs=0.05)
        box, row = stage.bounding_box(), line.bounding_box()
        assert row["height"] == pytest.approx(box["height"] / 2, abs=1)
        assert row["y"] - box["y"] == pytest.approx(box["height"] * (down - 0.25), abs=1)
        page.mouse.up()
        page.keyboard.press(" ")


def test_hand_and_keyboard_move_it(page: Any) -> None:
    use_renderer(page, new=False)
    run(page, graph("band.png", "ramp.flac"))
    place = page.evaluate("[...window.app.graph.getNodeById(3).pos]")
    page.mouse.move(*point(page, 0.25, 105 / 256))
    assert page.evaluate(STATE)["pointer"].startswith("2.5")
    hertz = float(page.evaluate(STATE)["pointer"].split("·")[1].removesuffix("Hz"))
    assert hertz == pytest.approx(float(band_frequencies()[255 - 105]), rel=0.03)

    page.mouse.click(*point(page, 0.5))
    page.wait_for_function(f"() => ({STATE})().seconds > 5.3")
    assert page.evaluate(STATE)["seconds"] < 9.0, "it plays from where it was clicked"
    page.keyboard.press(" ")
    assert not page.evaluate(STATE)["playing"]

    page.mouse.wheel(0, -100)
    page.wait_for_function("window.app.canvas.ds.scale > 1")
    page.mouse.move(*point(page, 0.1))
    page.mouse.down()
    page.mouse.move(*point(page, 0.3))
    assert page.evaluate(STATE)["seconds"] == pytest.approx(0.3 * SECONDS, abs=0.05)
    page.mouse.up()
    assert page.evaluate(STATE)["playing"]
    assert page.evaluate("[...window.app.graph.getNodeById(3).pos]") == place, "a drag seeks, and leaves the node where it is"

    page.keyboard.press("k")
    page.keyboard.press("Home")
    assert page.evaluate(STATE)["seconds"] == 0.0
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert page.evaluate(STATE)["seconds"] == pytest.approx(0.51)
    page.keyboard.press("End")
    assert page.evaluate(STATE)["seconds"] == pytest.approx(SECONDS)
    sidebar = "window.app.extensionManager.sidebarTab.activeSidebarTabId"
    for key in ("l", "v", "w"):  # w would open ComfyUI's list of workflows
        page.keyboard.press(key)
    state = page.evaluate(STATE)
    assert (state["looping"], state["view"], page.evaluate(sidebar)) == (True, "gray", None)
    page.keyboard.press("l")
    assert page.errors == []


@pytest.mark.parametrize("front_end", ["page", "newest_page"])
def test_a_click_into_the_picture_plays_and_lays_no_toolbox_over_what_stands_above(front_end: str, request: pytest.FixtureRequest) -> None:
    page = request.getfixturevalue(front_end)
    use_renderer(page, new=False)
    run(page, graph("band.png", "ramp.flac"))
    page.evaluate("() => window.app.canvas.deselectAll()")
    page.mouse.click(*point(page, 0.5))
    page.locator(".its-player-play[title^='Pause']").wait_for()
    page.wait_for_timeout(500)  # the toolbox would take a moment
    assert page.evaluate("[...window.app.canvas.selectedItems].map(item => item.title)") == []
    assert page.locator(".selection-toolbox:visible").count() == 0
    page.keyboard.press(" ")


def test_looped_it_goes_on_at_the_start(page: Any) -> None:
    run(page, graph("band.png", "ramp.flac"))
    page.locator(".its-player-loop").click()
    page.mouse.click(*point(page, 0.97))
    page.wait_for_function(f"() => ({STATE})().seconds < 5 && ({STATE})().seconds > 0.2")
    frames = page.evaluate(WATCH, [0.5, SECONDS])
    assert abs(statistics.median(shown - heard for shown, heard in frames)) < IN_STEP
    page.locator(".its-player-loop").click()
    page.locator(".its-player-play").click()


@pytest.mark.parametrize("front_end", ["page", "newest_page"])
def test_it_keeps_its_width_beside_an_open_properties_panel(front_end: str, request: pytest.FixtureRequest) -> None:
    page = request.getfixturevalue(front_end)
    use_renderer(page, new=False)
    run(page, graph("band.png", "ramp.flac"))
    width = page.locator(".its-player").bounding_box()["width"]
    change_setting(page, "Comfy.RightSidePanel.IsOpen", True)
    page.get_by_test_id("properties-panel").wait_for()
    try:
        title = page.locator(".its-player-stage").bounding_box()
        page.mouse.click(title["x"] + 100, title["y"] - 90)
        page.get_by_test_id("properties-panel").get_by_text("Play Image").first.wait_for()
        assert page.get_by_test_id("properties-panel").get_by_text("view", exact=True).count() == 1
        page.wait_for_timeout(500)
        assert page.locator(".its-player").bounding_box()["width"] == pytest.approx(width)
    finally:
        change_setting(page, "Comfy.RightSidePanel.IsOpen", False)


IN_A_BOX = """() => {
  // Play Image and Load Audio become a subgraph; where its box is.
  const {app} = window, inside = new Set([2, 3].map(id => app.graph.getNodeById(id)));
  const {node} = app.graph.convertToSubgraph(inside);
  node.pos = [400, 100];
  app.canvas.deselectAll();
  app.canvas.setDirty(true, true);
}"""
BOX = "window.app.graph.nodes.find(node => node.subgraph)"
PLAYERS = "() => document.querySelectorAll('.its-player').length"
SHOWN = ".its-player:visible"


@pytest.mark.parametrize("new", [False, True], ids=["classic canvas", "Nodes 2.0"])
@pytest.mark.parametrize("front_end", ["page", "newest_page"])
def test_a_subgraphs_box_plays_what_is_made_inside(front_end: str, new: bool, request: pytest.FixtureRequest) -> None:
    page = request.getfixturevalue(front_end)
    use_renderer(page, new)
    run(page, graph("band.png", "short.flac"))
    page.evaluate(IN_A_BOX)
    box = page.locator(SHOWN)
    box.get_by_text("Press Run").wait_for()
    page.errors.clear()
    page.evaluate("() => window.app.queuePrompt(0)")
    box.get_by_text("The sound ends at 8.00 s").wait_for()
    assert box.bounding_box()["width"] > 400

    saved = page.evaluate("() => JSON.stringify(window.app.graph.serialize())")
    page.evaluate("saved => window.app.loadGraphData(JSON.parse(saved))", saved)
    box.get_by_text("The sound ends at 8.00 s").wait_for()
    stage = box.locator(".its-player-stage").bounding_box()
    page.mouse.click(stage["x"] + 0.5 * stage["width"], stage["y"] + 0.5 * stage["height"])
    box.locator(".its-player-play[title^='Pause']").wait_for()
    page.keyboard.press(" ")

    page.evaluate(f"() => window.app.canvas.openSubgraph({BOX}.subgraph, {BOX})")
    page.evaluate(f"() => {BOX}.subgraph.remove({BOX}.subgraph.nodes.find(node => node.type === 'PlayImage'))")
    page.evaluate("() => window.app.canvas.setGraph(window.app.graph)")
    page.wait_for_function(f"() => ({PLAYERS})() === 0")
    assert page.errors == []


def test_it_speaks_chinese_where_comfyui_does(open_page: Callable[..., Any], server: Server) -> None:
    server.post("/settings", {"Comfy.Locale": "zh"})
    try:
        page = open_page()
        page.evaluate("() => window.app.graph.add(window.LiteGraph.createNode('PlayImage'))")
        page.locator(".its-player-hint", has_text="点击“运行”").wait_for()
        page.locator(".its-player-play[title='播放（空格键）']").wait_for()
        page.close()
    finally:
        server.post("/settings", {"Comfy.Locale": "en"})


def test_it_comes_back_with_its_workflows_tab(page: Any) -> None:
    run(page, graph("band.png", "ramp.flac"))
    page.locator(".its-player-play").click()
    for command, players in (("Comfy.NewBlankWorkflow", 0), ("Workspace.PreviousOpenedWorkflow", 1)):
        page.evaluate("command => window.app.extensionManager.command.execute(command)", command)
        page.wait_for_function(f"() => document.querySelectorAll('.its-player').length === {players}")
    page.wait_for_selector(READY_TO_PLAY)
    assert not page.evaluate(STATE)["playing"]
    assert page.errors == []


def test_a_shorter_sound_leaves_the_rest_of_its_picture_silent(page: Any) -> None:
    run(page, graph("band.png", "short.flac"))
    state = page.evaluate(STATE)
    assert state["message"] == "The sound ends at 8.00 s, before the picture (10.24 s)."
    page.locator(".its-player-stage").focus()
    page.keyboard.press("End")
    assert page.evaluate(STATE)["seconds"] == SHORT_SECONDS
    assert line_column(page) == pytest.approx(SHORT_SECONDS / SECONDS, abs=0.01)


def test_a_batch_is_browsed_its_files_hold_the_workflow_and_lost_ones_are_told_of(page: Any, server: Server) -> None:
    saved = graph("band.png", "ramp.flac")
    saved["nodes"][0] |= {"type": "EmptyImage", "widgets_values": [64, 64, 3, 0xFF0000]}
    run(page, saved)
    assert page.locator(".its-player-row").inner_text().startswith("0.0 / 10.2 s")
    assert "1 / 3" in page.locator(".its-player-row").inner_text()
    page.locator(".its-player-stage").focus()
    page.keyboard.press("PageDown")
    page.locator(".its-player-row", has_text="2 / 3").locator(READY_TO_PLAY).wait_for()

    with page.expect_download() as download:
        page.locator("a", has_text="PNG").click()
    assert download.value.suggested_filename == "image-that-sounds-2.png"
    picture = Image.open(download.value.path())
    assert picture.size == (64, 64) and picture.getpixel((0, 0)) == (255, 0, 0)
    assert {node["type"] for node in json.loads(picture.text["workflow"])["nodes"]} == {"EmptyImage", "LoadAudio", "PlayImage"}
    with page.expect_download() as download:
        page.locator("a", has_text="FLAC").click()
    samples, rate = soundfile.read(download.value.path())
    assert (rate, len(samples)) == (RATE, round(SECONDS * RATE))

    lost = (server.base / "temp").rename(server.base / "lost")
    page.keyboard.press("PageDown")
    page.locator("[role=status]", has_text="Press Run again").wait_for()
    lost.rename(server.base / "temp")


def test_after_a_reload_it_is_there_again_and_tells_of_a_browser_that_wants_a_click(page: Any) -> None:
    run(page, graph("band.png", "ramp.flac"))
    time.sleep(1.0)  # the front end keeps its draft of the graph a moment after a change
    page.reload(wait_until="domcontentloaded")
    # Not by page.evaluate, which counts as a click.
    session = page.context.new_cdp_session(page)

    def evaluate(script: str) -> Any:
        return session.send("Runtime.evaluate", {"expression": script, "returnByValue": True})["result"].get("value")

    def until(script: str) -> None:
        end = time.monotonic() + LIMIT
        while not evaluate(script):
            assert time.monotonic() < end, script
            time.sleep(0.2)

    until(f"document.querySelector('{READY_TO_PLAY}') !== null")
    evaluate("document.querySelector('.its-player-play').click()")
    until("document.querySelector('.its-player [role=status]').textContent.includes('click to play')")
    page.locator(".its-player-play").click()
    page.wait_for_function(f"() => ({STATE})().seconds > 0.2")
    assert page.evaluate(STATE)["message"] == ""
