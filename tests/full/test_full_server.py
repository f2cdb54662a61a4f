"""The whole graph at full size, two steps in the real server on a CPU."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from launch import environment, workflow
from launch.server import Server

pytestmark = [pytest.mark.full, pytest.mark.timeout(3600)]


def test_picture_and_sound_come_out_of_the_whole_graph(scratch, tmp_path):
    full_size = pytest.importorskip("full_size")
    full_size.write_vocoder(scratch / "diffusers" / "auffusion" / "vocoder")
    shutil.copytree(scratch, tmp_path / "models", copy_function=os.link)
    server = Server(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), tmp_path, tmp_path / "output", options=("--cpu",))
    template = workflow.load(environment.REPO / "workflows" / "10 Inside one sample.json")
    with server:
        prompt = workflow.to_prompt(template, server.get("/object_info"))
        names = {"image_model_name": "checkpoints/sd15.safetensors", "audio_model_name": "diffusers/auffusion", "weight_dtype": "fp16"}
        workflow.node_of(prompt, "LoadDualUNets").update(names)
        prompt["vocoder"] = {"class_type": "LoadVocoder", "inputs": {"vocoder_name": "diffusers/auffusion"}}
        workflow.node_of(prompt, "SpectrogramToAudio")["vocoder"] = ["vocoder", 0]
        workflow.node_of(prompt, "MultimodalKSampler")["steps"] = 2
        done = [kind for kind, _ in server.run(prompt)]

    shutil.rmtree(tmp_path / "models")
    assert done[-1] == "execution_success"
    written = {path.suffix: path.stat().st_size for path in server.output.rglob("*") if path.is_file()}
    assert {".png", ".flac", ".mp4"} <= written.keys() and min(written.values()) > 1000
    assert "unet missing" not in server.log_tail(1000)
