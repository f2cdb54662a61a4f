"""A workflow of somebody who means harm, in the real server and a real browser: no text of it runs, nothing is asked of another machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import MARKUP, SHAPES, write_huge_picture, write_lying_sound
from PIL import Image

from launch.environment import PACK_NAME, QuickstartError
from launch.server import Server

MEGABYTE = 1e6
ROOM = 400 * MEGABYTE
"""That the server may need beside what it has, for any of the files that claim to be huge."""


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def most_memory(server: Server) -> float:
    """Bytes that the server has had at most since `begin_to_watch`."""
    assert server._process
    status = Path(f"/proc/{server._process.pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def begin_to_watch(server: Server) -> float:
    assert server._process
    Path(f"/proc/{server._process.pid}/clear_refs").write_text("5")
    return most_memory(server)


def test_a_picture_and_sounds_that_claim_to_be_huge_are_refused_or_read_as_they_are(server: Server) -> None:
    """ComfyUI's own loaders read them, in front of every node of ours."""
    folder = server.base / "input"
    write_huge_picture(folder / "huge.png")
    write_lying_sound(folder / "lying.flac")
    write_lying_sound(folder / "lying.wav")
    before = begin_to_watch(server)
    rows = {"I": node("LoadImage", image="huge.png"), "O": node("SaveImage", images=["I", 0], filename_prefix="huge")}
    with pytest.raises(QuickstartError, match="(?i)decompression bomb"):
        list(server.run(rows))
    for name in ("lying.flac", "lying.wav"):
        prompt = {
            "A": node("LoadAudio", audio=name),
            "S": node("AudioToSpectrogram", audio=["A", 0], seconds=0.0),
            "O": node("SaveImage", images=["S", 0], filename_prefix="lying"),
        }
        (path,) = server.files_of(prompt)
        assert Image.open(path).size == (10, 256), "a tenth of a second"
    assert most_memory(server) - before < ROOM


def test_a_name_that_leads_elsewhere_is_refused_by_the_server(server: Server) -> None:
    picture = {"I": node("EmptyImage", width=8, height=256, batch_size=1, color=0)}
    sound = {"A": node("SpectrogramToAudio", spectrogram=["I", 0], iterations=1)}
    before = {path for path in server.base.rglob("*") if "temp" not in path.parts}
    for name in ("../../evil", "/tmp/evil", "a/../../evil", "..\\..\\evil", "<img src=x>"):
        saver = node("SaveImageThatSounds", image=["I", 0], audio=["A", 0], filename_prefix=name)
        with pytest.raises(QuickstartError, match="SaveImageThatSounds.*filename_prefix is"):
            list(server.run(picture | sound | {"O": saver}))
        loader = node("LoadVocoder", vocoder_name=f"vocoders/{name}")
        with pytest.raises(QuickstartError, match="LoadVocoder.*vocoder_name"):
            list(server.run({"V": loader, "O": node("PreviewAny", source=["V", 0])}))
    assert {path for path in server.base.rglob("*") if "temp" not in path.parts} == before


@pytest.mark.parametrize("kind", SHAPES)
def test_a_prompt_of_any_shape_makes_a_picture_a_sound_and_a_video(server: Server, kind: str) -> None:
    text = SHAPES[kind]
    prompt = {
        "L": node("LoadDualUNets", image_model_name="embedded", audio_model_name="embedded", weight_dtype="default"),
        "C": node("CLIPTextEncode", text=text, clip=["L", 1]),
        "N": node("CLIPTextEncode", text="", clip=["L", 1]),
        "E": node("EmptySpectrogramLatent", seconds=0.64, batch_size=1, view="none"),
        "K": node(
            "KSampler", model=["L", 0], positive=["C", 0], negative=["N", 0], latent_image=["E", 0], seed=1, steps=1, cfg=1.0,
            sampler_name="euler", scheduler="normal", denoise=1.0,
        ),
        "D": node("VAEDecode", samples=["K", 0], vae=["L", 4]),
        "A": node("SpectrogramToAudio", spectrogram=["D", 0], iterations=1),
        "O": node("SaveImageThatSounds", image=["D", 0], audio=["A", 0], filename_prefix="hostile/pair"),
        "V": node("PlayheadVideo", image=["D", 0], audio=["A", 0], fps=5.0, image_prompt=text, audio_prompt=text),
        "S": node("SaveVideo", video=["V", 0], filename_prefix="hostile/video", format="auto", codec="auto"),
    }  # fmt: skip
    assert sorted(path.suffix for path in server.files_of(prompt)) == [".flac", ".mp4", ".png"]


# In a browser ------------------------------------------------------------------------------------------------------------------------

EVERYTHING = "\n".join(MARKUP.values())
SEEN = """() => ({
  ran: window.ran ?? "nothing",
  foreign: [...document.querySelectorAll('img[src=x], iframe[srcdoc], svg[onload], [onerror], [onfocus], link[href*="192.0.2.1"]')]
    .map(element => element.outerHTML.slice(0, 200)),
})"""
GRAPH = """texts => {
  // Hostile wherever a saved graph can hold a text that our nodes show: titles, prompts, captions, names, notes.
  const {app, LiteGraph} = window;
  app.graph.clear();
  const add = (type, x, y, values = {}) => {
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    Object.assign(node, {pos: [x, y], title: texts.image});
    for (const widget of node.widgets ?? []) if (widget.name in values) widget.value = values[widget.name];
    return node;
  };
  const picture = add('EmptyImage', 0, 0, {width: 64, height: 256});
  const sound = add('SpectrogramToAudio', 300, 0, {iterations: 1});
  const scorers = add('LoadScorers', 0, 300);
  const scores = add('ScoreImageAndSound', 300, 300, {image_prompt: texts.all, audio_prompt: texts.all});
  const table = add('PreviewAny', 700, 300);
  const player = add('PlayImage', 700, 0);
  const video = add('PlayheadVideo', 300, 700, {image_prompt: texts.all, audio_prompt: texts.all, fps: 5});
  const saved = add('SaveVideo', 700, 700, {filename_prefix: 'hostile'});
  const pair = add('SaveImageThatSounds', 1100, 0, {filename_prefix: 'hostile/pair'});
  picture.connect(0, sound, 'spectrogram');
  for (const node of [player, video, pair]) { picture.connect(0, node, 'image'); sound.connect(0, node, 'audio'); }
  scorers.connect(0, scores, 'scorer'); picture.connect(0, scores, 'images'); sound.connect(0, scores, 'audio');
  scores.connect(1, table, 0);
  video.connect(0, saved, 'video');
}"""

SET_PREFIX = """value => {
  const {widgets} = window.app.graph.nodes.find(node => node.type === 'SaveImageThatSounds');
  widgets.find(widget => widget.name === 'filename_prefix').value = value;
  window.app.api.addEventListener('execution_error', ({detail}) => { window.failed = detail.exception_message; });
}"""
PLAY_HOSTILE = """async ([script, text]) => {
  // A player that is told texts where numbers and names of files belong.
  const {Player} = await import(script);
  const player = new Player(() => '/view?' + new URLSearchParams({filename: text}));
  document.body.append(player.element);
  const file = {filename: text, subfolder: text, type: text};
  const item = {picture: file, sound: file, seconds: 1, picture_seconds: 1, sample_rate: 16000, is_spectrogram: true};
  await player.show({player: [item, item], row_hertz: [[text]]});
  const shown = player.element.textContent;
  player.element.remove();
  return shown;
}"""
VIDEO_SHOWN = """() =>
  Object.values(window.app.nodeOutputs ?? {}).some(output => output.images?.[0]?.filename?.endsWith('.mp4'))"""


@pytest.fixture(scope="module")
def page(open_page: Callable[..., Any]) -> Iterator[Any]:
    page = open_page()
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    yield page
    page.close()


def require_harmless(page: Any, server: Server) -> None:
    page.wait_for_timeout(500)
    assert page.evaluate(SEEN) == {"ran": "nothing", "foreign": []}
    assert [url for url in page.asked if not url.startswith((server.url, "data:", "blob:"))] == []


@pytest.mark.browser
def test_no_text_of_a_hostile_graph_runs_beside_the_player_a_table_and_a_video(page: Any, server: Server) -> None:
    page.evaluate(GRAPH, {**MARKUP, "all": EVERYTHING})
    page.evaluate("() => window.app.queuePrompt(0)")
    page.wait_for_selector(".its-player-play:not([disabled])")
    page.wait_for_function(
        "() => Object.values(window.app.nodeOutputs ?? {}).some(output => output.images?.[0]?.filename?.endsWith('.mp4'))"
    )
    require_harmless(page, server)
    saved = page.evaluate("() => JSON.stringify(window.app.graph.serialize())")
    assert json.loads(saved)["nodes"][0]["title"] == MARKUP["image"], "the text is there, as text"
    page.evaluate("saved => window.app.loadGraphData(JSON.parse(saved))", saved)
    require_harmless(page, server)


@pytest.mark.browser
def test_no_hostile_value_runs_in_the_error_that_it_leads_to(page: Any, server: Server) -> None:
    page.evaluate(GRAPH, {**MARKUP, "all": EVERYTHING})
    page.evaluate(SET_PREFIX, MARKUP["image"] + MARKUP["script"])
    page.evaluate("() => window.app.queuePrompt(0)")
    page.wait_for_function("() => window.failed?.includes('SaveImageThatSounds: filename_prefix is')")
    require_harmless(page, server)


@pytest.mark.browser
def test_what_a_player_is_told_by_a_hostile_server_is_text(page: Any, server: Server) -> None:
    told = page.evaluate(PLAY_HOSTILE, [f"/extensions/{PACK_NAME}/js/player.js", EVERYTHING])
    assert "Press Run again" in told
    require_harmless(page, server)
