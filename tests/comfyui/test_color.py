"""Colour in the real server: what SaveImage writes in colour has, byte for byte, the gray of what it writes without."""

from __future__ import annotations

from pathlib import Path

import diffusers_folders
import numpy as np
import pytest
import tiny_deepfloyd
from PIL import Image

from launch.server import Server

LOADERS = {
    "LoadColorModel": {"color_model_name": "diffusers/tiny-color"},
    "LoadDeepFloydIF": {"stage_1_name": "diffusers/tiny-if-1", "stage_2_name": "diffusers/tiny-if-2", "weight_dtype": "default"},
}


@pytest.fixture(scope="module")
def folders(server: Server) -> Path:
    """Small random models where the server finds them."""
    root = server.base / "models" / "diffusers"
    diffusers_folders.write_color_folder(root / "tiny-color")
    diffusers_folders.text_encoder().save_pretrained(root / "tiny-color" / "text_encoder")
    diffusers_folders.write_tokenizer(root / "tiny-color" / "tokenizer")
    tiny_deepfloyd.write_stage_1(root / "tiny-if-1")
    tiny_deepfloyd.write_stage_2(root / "tiny-if-2")
    return root


@pytest.mark.parametrize("loader", LOADERS)
def test_the_saved_colour_picture_has_the_bytes_of_the_saved_gray_one(loader: str, server: Server, folders: Path) -> None:
    rows = np.random.default_rng(0).random((256, 64), dtype=np.float32)
    Image.fromarray((255 * rows).astype(np.uint8)).save(server.base / "input" / "spectrogram.png")
    settings = {"seed": 1, "steps": 3, "cfg": 3.0, "start_step": 1, "sampler_name": "ddim", "scheduler": "ddim_uniform"}
    prompt = {
        "1": {"class_type": loader, "inputs": LOADERS[loader]},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a castle"}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
        "4": {"class_type": "LoadImage", "inputs": {"image": "spectrogram.png"}},
        "5": {
            "class_type": "FactorizedColorize",
            "inputs": {"spectrogram": ["4", 0], "model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], **settings},
        },
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": f"{loader}-color"}},
        "7": {"class_type": "SaveImage", "inputs": {"images": ["4", 0], "filename_prefix": f"{loader}-gray"}},
    }
    messages = list(server.run(prompt))

    files = {data["node"]: data["output"]["images"][0]["filename"] for kind, data in messages if kind == "executed" and data["output"]}
    color, gray = (np.asarray(Image.open(server.output / files[node]).convert("RGB")).astype(int) for node in ("6", "7"))
    np.testing.assert_array_equal(color.sum(axis=-1), gray.sum(axis=-1))
    assert (color.max(axis=-1) - color.min(axis=-1)).mean() > 3
    assert any(kind == "progress" and data["node"] == "5" for kind, data in messages)
    assert "% of the colour did not fit" in server.log.read_text(encoding="utf-8")
