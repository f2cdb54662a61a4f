"""Every template, executed by the real server with its steps cut to four and the longest canvas to two windows, and its files looked at.

Those for published models run as their embedded twins: the same graph with the embedded models' names, a small random LoRA for a LoRA, and
for DeepFloyd IF small random stages of its own layout.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from PIL import Image
from small_templates import LONG, embedded_twin, shortened

from launch import workflow
from launch.environment import REPO, QuickstartError
from launch.server import Server
from published import models as published

TEMPLATES = sorted((REPO / "workflows").glob("*.json"))
STEPS = 4
RECORDINGS_OWN = ("03 Picture in a song", "05 Photo in a recording", "06 Your logo loop")
"""Templates whose sound has the rate and channels of the recording that is loaded, 44.1 kHz and stereo."""
SAMPLE_RATE, HOP, ROWS = 16000, 160, 256
FRAMES, TRIMMED = 1024, 32

CHECKPOINT, LORA = "checkpoints/v1-5-pruned-emaonly-fp16.safetensors", "lcm-lora-sdv1-5.safetensors"
ON_SD15 = ("21 SD15 and Auffusion", "22 Few steps with LCM", "23 Colour by DeepFloyd IF", "28 SD15 and Riffusion")
OFFERED = {name: {CHECKPOINT: "checkpoints"} for name in ON_SD15}
OFFERED["22 Few steps with LCM"] |= {LORA: "loras"}
"""Files that ComfyUI's missing-model list can offer, with their folders under models/."""
PAPERS_LENGTH = {
    "01 Picture that sounds",
    "10 Inside one sample",
    "20 Guider for any sampler",
    "21 SD15 and Auffusion",
    "22 Few steps with LCM",
}
"""Templates whose picture is the paper's 10.24 s without the margin."""


def prompt_of(template: Path, object_info: dict[str, Any], steps: int | None = None) -> workflow.Prompt:
    prompt = workflow.to_prompt(workflow.load(template), object_info)
    return shortened(prompt, steps) if steps else prompt


def picture_alone(prompt: workflow.Prompt, object_info: dict[str, Any]) -> workflow.Prompt:
    """The prompt with its picture saved alone, and so without what leads to the other outputs: the server does not run it."""
    alone = {key: node for key, node in prompt.items() if not object_info[node["class_type"]]["output_node"]}
    picture = workflow.node_of(prompt, "SaveImageThatSounds")["image"]
    return alone | {"picture": {"class_type": "SaveImage", "inputs": {"images": picture, "filename_prefix": "picture"}}}


def saved_files(server: Server, prompt: workflow.Prompt) -> dict[str, list[Path]]:
    """Run a prompt; its saved files by suffix."""
    paths = server.files_of(prompt)
    return {suffix: [path for path in paths if path.suffix == suffix] for suffix in {path.suffix for path in paths}}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_template_runs_and_its_picture_sound_and_video_agree(template: Path, server: Server, object_info: dict[str, Any]) -> None:
    files = saved_files(server, embedded_twin(prompt_of(template, object_info, STEPS), server))

    assert len(files[".png"]) == len(files[".flac"])
    for picture, recording in zip(files[".png"], files[".flac"], strict=True):
        columns, rows = Image.open(picture).size
        sound, rate = soundfile.read(recording)
        if template.stem == "14 Square spectrogram":
            assert (rows, columns, len(sound), rate) == (2 * ROWS, FRAMES // 2, FRAMES * HOP, SAMPLE_RATE)
            columns = FRAMES
            continue
        if template.stem == "28 SD15 and Riffusion":
            assert (rows, columns, len(sound), rate) == (2 * ROWS, 512, 511 * 441, 44100)
            continue
        assert rows == ROWS
        if template.stem in RECORDINGS_OWN:
            assert (rate, sound.shape) == (44100, (columns * 441, 2))
        else:
            assert (rate, sound.shape) == (SAMPLE_RATE, (columns * HOP,))
        assert abs(sound).max() > 0.0
        if template.stem in PAPERS_LENGTH:
            assert columns == FRAMES - TRIMMED  # 9.92 s

    videos, seconds = files.get(".mp4", []), len(files[".png"]) * columns * HOP / SAMPLE_RATE
    assert len(videos) == (template.stem == "10 Inside one sample")
    for path in videos:
        with av.open(path) as video:
            fps = video.streams.video[0].average_rate
            pictures = sum(1 for _ in video.decode(video=0))
        assert fps is not None and pictures == math.ceil(seconds * fps)
        with av.open(path) as video:
            heard = sum(frame.samples / frame.sample_rate for frame in video.decode(audio=0))
        assert heard == pytest.approx(seconds, abs=0.2)


def test_the_first_template_makes_a_square_picture_whose_halves_are_the_sound(server: Server, object_info: dict[str, Any]) -> None:
    """As a user would: view set in canvas and sampler, View Canvas between decoder and sound, the square saved too."""
    prompt = prompt_of(REPO / "workflows" / "01 Picture that sounds.json", object_info, STEPS)
    view = "two-row square"
    for class_type in ("EmptySpectrogramLatent", "MultimodalKSampler"):
        workflow.node_of(prompt, class_type)["view"] = view
    decoder = workflow.id_of(prompt, "VAEDecode")
    for node in prompt.values():
        node["inputs"] |= {name: ["view", 0] for name, value in node["inputs"].items() if value == [decoder, 0]}
    prompt["view"] = {"class_type": "ViewCanvas", "inputs": {"canvas": [decoder, 0], "view": view}}
    workflow.node_of(prompt, "SaveImageThatSounds")["filename_prefix"] = "square/sound"
    prompt["square"] = {"class_type": "SaveImage", "inputs": {"images": [decoder, 0], "filename_prefix": "square/picture"}}
    list(server.run(prompt))

    square, spectrogram = (
        np.asarray(Image.open(server.output / "square" / f"{name}_00001_.png").convert("L"), int) for name in ("picture", "sound")
    )
    side = FRAMES // 2
    assert square.shape == (side, side)
    halves = np.concatenate([square[:ROWS], square[ROWS:]], axis=1)[:, : FRAMES - TRIMMED]
    assert spectrogram.shape == halves.shape and abs(spectrogram - halves).max() <= 1, "levels: core's saver truncates, ours rounds"


def test_the_papers_template_has_the_papers_settings(object_info: dict[str, Any]) -> None:
    prompt = prompt_of(REPO / "workflows" / "21 SD15 and Auffusion.json", object_info)
    settings = dict(image_cfg=10.0, audio_cfg=10.0, t_image=0.9, t_audio=1.0, audio_weight=0.5, denoise=1.0, view="none")
    settings |= dict(steps=100, sampler_name="ddim", scheduler="ddim_uniform")
    sampler = workflow.node_of(prompt, "MultimodalKSampler")
    assert sampler == sampler | settings
    assert workflow.node_of(prompt, "EmptySpectrogramLatent")["seconds"] * SAMPLE_RATE / HOP == FRAMES
    assert workflow.node_of(prompt, "TrimCanvas")["columns"] == TRIMMED
    assert workflow.node_of(prompt, "PaperPrompts")["pair"] == "castle towers / bell ringing"


def test_the_imprint_template_has_the_papers_settings(object_info: dict[str, Any]) -> None:
    prompt = prompt_of(REPO / "workflows" / "24 Spectrogram imprint.json", object_info)
    samplers = [node["inputs"] for node in prompt.values() if node["class_type"] == "KSampler"]
    assert [(sampler["steps"], sampler["cfg"], sampler["sampler_name"]) for sampler in samplers] == [(50, 7.5, "ddim"), (100, 7.5, "ddim")]
    assert workflow.node_of(prompt, "ImprintBaseline")["rho"] == 0.5


def test_the_colour_template_has_the_papers_settings(object_info: dict[str, Any]) -> None:
    prompt = prompt_of(REPO / "workflows" / "23 Colour by DeepFloyd IF.json", object_info)
    colorize = workflow.node_of(prompt, "FactorizedColorize")
    assert colorize == colorize | dict(steps=30, cfg=10.0, start_step=7, noise_level=50)
    trim, loader = (prompt[colorize[name][0]] for name in ("spectrogram", "model"))
    assert trim["class_type"] == "TrimCanvas" and trim["inputs"]["columns"] == TRIMMED
    assert loader["inputs"] == loader["inputs"] | dict(stage_1_name="diffusers/IF-I-M-v1.0", stage_2_name="diffusers/IF-II-M-v1.0")
    sampler, papers = (
        workflow.node_of(graph, "MultimodalKSampler")
        for graph in (prompt, prompt_of(REPO / "workflows" / "21 SD15 and Auffusion.json", object_info))
    )
    settings = {name for name, value in papers.items() if not isinstance(value, list)}
    assert {name: sampler[name] for name in settings} == {name: papers[name] for name in settings}


def test_the_colour_templates_have_the_papers_words_ready(object_info: dict[str, Any]) -> None:
    for template in ("23 Colour by DeepFloyd IF", "11 Sound in colour"):
        prompt = prompt_of(REPO / "workflows" / f"{template}.json", object_info)
        encoder = prompt[workflow.node_of(prompt, "FactorizedColorize")["positive"][0]]["inputs"]
        assert workflow.value(prompt, encoder, "text").startswith("a colorful photo of ")


def test_the_score_distillation_template_has_the_papers_settings(object_info: dict[str, Any]) -> None:
    prompt = prompt_of(REPO / "workflows" / "26 SDS with DeepFloyd IF.json", object_info)
    settings = dict(iterations=40_000, warm_start=5_000, lambda_sds=0.4, image_cfg=80.0, audio_cfg=10.0, crops=8, learning_rate=1e-4)
    settings |= dict(seconds=10.24, hidden=256, canvas="network")
    distillation = workflow.node_of(prompt, "SDSBaseline")
    assert distillation == distillation | settings
    assert prompt[distillation["image_model"][0]]["class_type"] == "LoadDeepFloydIF"
    assert workflow.node_of(prompt, "LoadDualUNets")["audio_model_name"].startswith("diffusers/auffusion")


def commands(template: Path) -> list[str]:
    """What a template's note tells to fetch."""
    notes = [node["widgets_values"][0] for node in workflow.load(template)["nodes"] if node["type"] == "MarkdownNote"]
    return re.findall(r"python fetch\.py ([^`\n]+)", "".join(notes))


def names_in_boxes(model: published.Model) -> Iterator[str]:
    """By which loaders offer a published model: a folder, or a file with its folder or without."""
    for source in model.sources:
        file = source.save_as or source.files[0]
        yield from (source.folder, f"{source.folder}/{file}", file)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_what_a_template_loads_is_what_its_note_fetches(template: Path, object_info: dict[str, Any]) -> None:
    loaded = {value for node in prompt_of(template, object_info).values() for value in node["inputs"].values() if isinstance(value, str)}
    wanted = {name for name, model in published.MODELS.items() if loaded & set(names_in_boxes(model))}
    for command in commands(template):
        assert set(command.split()) == wanted
    assert commands(template) or not wanted


def test_the_saved_colour_picture_plays_as_its_gray_does(server: Server, object_info: dict[str, Any]) -> None:
    """As the template's note says: the saved PNG on Load Image, the muted group unmuted."""
    path = REPO / "workflows" / "11 Sound in colour.json"
    (saved,) = saved_files(server, prompt_of(path, object_info, STEPS))[".png"]
    pixels = np.asarray(Image.open(saved)).astype(int)
    assert (pixels.max(axis=-1) - pixels.min(axis=-1)).mean() > 3
    gray = saved.with_name("gray.png")
    Image.fromarray((pixels.sum(axis=-1) // 3).astype(np.uint8)).convert("RGB").save(gray)  # as SaveImage writes it

    graph = workflow.load(path)
    graph["nodes"] = [node | {"mode": 0} for node in graph["nodes"] if node["mode"] == workflow.MUTED]
    prompt = workflow.to_prompt(graph, object_info)
    for node in prompt.values():
        if node["class_type"] == "PreviewAudio":
            node |= {"class_type": "SaveAudio", "inputs": node["inputs"] | {"filename_prefix": "again"}}
    sounds = []
    for picture in (saved, gray):
        workflow.node_of(prompt, "LoadImage")["image"] = f"{picture.relative_to(server.output).as_posix()} [output]"
        (recording,) = saved_files(server, prompt)[".flac"]
        sounds.append(soundfile.read(recording)[0])
    np.testing.assert_allclose(*sounds, atol=1e-5)


def test_the_few_step_templates_lora_is_the_image_models_alone(server: Server, object_info: dict[str, Any]) -> None:
    prompt = embedded_twin(prompt_of(REPO / "workflows" / "22 Few steps with LCM.json", object_info, steps=2), server)
    prompt = picture_alone(prompt, object_info)
    pictures = {}
    for weight in (0.5, 1.0):
        for strength in (0.0, 1.0):
            workflow.node_of(prompt, "MultimodalKSampler")["audio_weight"] = weight
            workflow.node_of(prompt, "LoraLoaderModelOnly")["strength_model"] = strength
            workflow.node_of(prompt, "SaveImage")["filename_prefix"] = name = f"lora/{weight}-{strength}"
            list(server.run(prompt))
            pictures[weight, strength] = Image.open(server.output / f"{name}_00001_.png").tobytes()
    assert pictures[0.5, 0.0] != pictures[0.5, 1.0]
    assert pictures[1.0, 0.0] == pictures[1.0, 1.0]


def column_steps(picture: np.ndarray) -> np.ndarray:
    """Mean difference between neighbouring columns; the first is that between the last column and the first."""
    return np.abs(picture - np.roll(picture, 1, axis=1)).mean(0)


def test_repainting_a_part_leaves_every_pixel_outside_of_the_mask_and_no_seam(server: Server, object_info: dict[str, Any]) -> None:
    prompt = picture_alone(prompt_of(REPO / "workflows" / "15 Inpaint a part.json", object_info, STEPS), object_info)
    composite = workflow.node_of(prompt, "ImageCompositeMasked")
    start = workflow.node_of(prompt, "MaskComposite")["x"]
    end = start + next(node["inputs"]["width"] for node in prompt.values() if node["inputs"].get("value") == 1.0)
    workflow.node_of(prompt, "SaveImage")["filename_prefix"] = "repaint/after"
    prompt["before"] = {"class_type": "SaveImage", "inputs": {"images": composite["destination"], "filename_prefix": "repaint/before"}}
    list(server.run(prompt))

    before, after = (np.asarray(Image.open(server.output / f"repaint/{name}_00001_.png"), np.float32) for name in ("before", "after"))
    changed = (before != after).any(axis=(0, 2))
    assert changed[start + 1 : end - 1].all() and not changed[:start].any() and not changed[end:].any()
    usual, steps = column_steps(before[..., 0]), column_steps(after[..., 0])
    for join in (slice(start - 1, start + 2), slice(end - 1, end + 2)):
        assert steps[join].max() < 1.1 * max(usual[join].max(), np.quantile(usual, 0.95))


def test_the_loops_picture_has_no_seam_where_its_end_meets_its_start(server: Server, object_info: dict[str, Any]) -> None:
    prompt = picture_alone(prompt_of(REPO / "workflows" / "17 Seamless loop.json", object_info, STEPS), object_info)
    workflow.node_of(prompt, "ImageScale")["width"] = round(LONG * SAMPLE_RATE / HOP)
    workflow.node_of(prompt, "SaveImage")["filename_prefix"] = "ring/turn"
    list(server.run(prompt))
    steps = column_steps(np.asarray(Image.open(server.output / "ring" / "turn_00001_.png").convert("L"), np.float32))
    assert steps[0] < np.quantile(steps, 0.95)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_a_seed_that_is_drawn_anew_for_the_next_run_is_one_that_samplers_take(template: Path) -> None:
    """The front end draws an Int's from all integers, half of them negative."""
    numbers = [node for node in workflow.load(template)["nodes"] if node["type"] == "PrimitiveInt"]
    assert [node["title"] for node in numbers if node["widgets_values"][1] == "randomize"] == []


@pytest.mark.parametrize("template", OFFERED)
def test_a_template_offers_the_files_that_its_loaders_name(template: str) -> None:
    """The front end offers what stands in a loader's properties, where one of that loader's widgets has the same name."""
    nodes = workflow.load(REPO / "workflows" / f"{template}.json")["nodes"]
    offered = {model["name"]: (model, node["widgets_values"]) for node in nodes for model in node["properties"].get("models", [])}
    assert {name: model["directory"] for name, (model, _) in offered.items()} == OFFERED[template]
    for name, (model, values) in offered.items():
        assert name in values
        assert model["url"].startswith("https://huggingface.co/") and "/resolve/" in model["url"] and model["url"].endswith(".safetensors")


def test_the_same_seed_gives_the_same_picture(server: Server, object_info: dict[str, Any]) -> None:
    prompt = picture_alone(prompt_of(REPO / "workflows" / "01 Picture that sounds.json", object_info, STEPS), object_info)
    for seed, name in ((1, "first"), (2, "other"), (1, "again")):
        workflow.node_of(prompt, "MultimodalKSampler")["seed"] = seed
        workflow.node_of(prompt, "SaveImage")["filename_prefix"] = f"seed/{name}"
        list(server.run(prompt))
    first, other, again = (Image.open(server.output / "seed" / f"{name}_00001_.png").tobytes() for name in ("first", "other", "again"))
    assert first == again
    assert first != other


def test_a_run_can_be_cancelled_while_it_samples(server: Server, object_info: dict[str, Any]) -> None:
    prompt = prompt_of(REPO / "workflows" / "01 Picture that sounds.json", object_info, steps=1000)
    asked = None
    with pytest.raises(QuickstartError, match="cancelled"):
        for kind, _ in server.run(prompt):
            if kind == "progress" and asked is None:
                server.post("/interrupt", {})
                asked = time.monotonic()
    assert asked is not None and time.monotonic() - asked < 15
    assert server.running
