"""Every template, executed by the real server with its steps cut to four, and its files looked at."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import av
import pytest
import soundfile
from PIL import Image

from tools.quickstart import workflow
from tools.quickstart.environment import REPO, QuickstartError
from tools.quickstart.server import Server

TEMPLATES = sorted((REPO / "workflows").glob("*.json"))
STEPS = 4
SAMPLE_RATE, HOP, ROWS = 16000, 160, 256
FRAMES, TRIMMED = 1024, 32


def prompt_of(template: Path, object_info: dict[str, Any], steps: int) -> workflow.Prompt:
    prompt = workflow.to_prompt(workflow.load(template), object_info)
    for node in prompt.values():
        if "steps" in node["inputs"]:
            node["inputs"]["steps"] = steps
    return prompt


def saved_files(server: Server, prompt: workflow.Prompt) -> dict[str, Path]:
    """Run a prompt; its saved files by suffix."""
    outputs = [data["output"] for kind, data in server.run(prompt) if kind == "executed" and data["output"]]
    items = [item for output in outputs for entries in output.values() for item in entries if isinstance(item, dict)]
    paths = [server.output / item["subfolder"] / item["filename"] for item in items if item.get("type") == "output"]
    return {path.suffix: path for path in paths}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_template_runs_and_its_picture_sound_and_video_agree(template: Path, server: Server, object_info: dict[str, Any]) -> None:
    files = saved_files(server, prompt_of(template, object_info, STEPS))

    columns, rows = Image.open(files[".png"]).size
    sound, rate = soundfile.read(files[".flac"])
    assert rows == ROWS
    assert rate == SAMPLE_RATE
    assert sound.shape == (columns * HOP,)
    assert abs(sound).max() > 0.0
    if template.stem.startswith("images_that_sound"):
        assert columns == FRAMES - TRIMMED  # 9.92 s

    with av.open(files[".mp4"]) as video:
        fps = video.streams.video[0].average_rate
        pictures = sum(1 for _ in video.decode(video=0))
    assert fps is not None and pictures == math.ceil(columns * HOP / SAMPLE_RATE * fps)
    with av.open(files[".mp4"]) as video:
        heard = sum(frame.samples / frame.sample_rate for frame in video.decode(audio=0))
    assert heard == pytest.approx(columns * HOP / SAMPLE_RATE, abs=0.2)


def test_the_same_seed_gives_the_same_picture(server: Server, object_info: dict[str, Any]) -> None:
    prompt = prompt_of(REPO / "workflows" / "images_that_sound_embedded.json", object_info, STEPS)
    for seed, name in ((1, "first"), (2, "other"), (1, "again")):
        workflow.node_of(prompt, "MultimodalKSampler")["seed"] = seed
        workflow.node_of(prompt, "SaveImage")["filename_prefix"] = f"seed/{name}"
        list(server.run(prompt))
    first, other, again = (Image.open(server.output / "seed" / f"{name}_00001_.png").tobytes() for name in ("first", "other", "again"))
    assert first == again
    assert first != other


def test_a_run_can_be_cancelled_while_it_samples(server: Server, object_info: dict[str, Any]) -> None:
    prompt = prompt_of(REPO / "workflows" / "images_that_sound_embedded.json", object_info, steps=1000)
    asked = None
    with pytest.raises(QuickstartError, match="cancelled"):
        for kind, _ in server.run(prompt):
            if kind == "progress" and asked is None:
                server.post("/interrupt", {})
                asked = time.monotonic()
    assert asked is not None and time.monotonic() - asked < 15
    assert server.running
