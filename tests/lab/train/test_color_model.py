"""The colour model's data and sampler: what is coloured, what stays gray, and that ComfyUI computes what diffusers does."""

import importlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from itsound_core.colorize import split_gray, within_gamut

pytest.importorskip("resvg_py", reason="only needed to rebuild the embedded models")
pytest.importorskip("scipy")
TRAIN = Path(__file__).parents[3] / "lab" / "train"
from lab.train import colors, evaluate_color, train_color  # noqa: E402

RED, GREEN = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)


def test_colours_for_training_come_from_no_family_that_colours_are_judged_on():
    entries = json.loads((TRAIN / "drawings.json").read_text())
    families = {split: {entry["family"] for entry in entries if entry["set"] in sets} for split, sets in colors.EMOJI.items()}
    assert families["train"].isdisjoint(families["dev"] | families["heldout"])
    assert {entry["split"] for entry in entries if entry["family"] in families["heldout"]} == {"heldout"}


def test_another_drawing_is_painted_at_each_height_as_the_emoji_is():
    emoji = np.zeros((2, 256, 256), np.uint8)
    emoji[:, 100:200, 80:160] = 255
    color = np.full((256, 256, 3), 1 / 3, np.float32)
    color[100:150], color[150:200] = GREEN, RED
    other = np.zeros((2, 256, 256), np.uint8)
    other[:, 20:240] = 255
    painted = colors.painted(other, colors.palette(emoji, color))
    np.testing.assert_allclose(painted[30, 0], GREEN, atol=1e-5)
    np.testing.assert_allclose(painted[230, 0], RED, atol=1e-5)


def test_all_channels_of_a_canvas_are_laid_out_alike():
    thing = np.full((4, 100, 60), 255, np.uint8)
    thing[:3] //= 3
    for seed in range(20):
        rng = np.random.default_rng(seed)
        if rng.random() > colors.TINTED:
            canvas = colors.compose([thing], np.random.default_rng(seed))
            assert canvas.shape == (3, 64, 256) and canvas.max() > 60
            assert (canvas == canvas[:1]).all()


def test_a_sound_over_a_drawing_changes_brightness_and_never_hue():
    layers = torch.zeros(1, 3, 2, 4)
    layers[:, :, :, :2] = torch.tensor([0.4, 0.2, 0.1])[None, :, None, None]  # ink on the left, nothing on the right
    sound = torch.tensor([[0.0, 0.6, 0.0, 0.6]]).expand(1, 1, 2, 4)
    picture = train_color.paint(layers, sound, torch.tensor([[0.4, 0.2, 0.1]]))
    gray, color = split_gray(picture)
    torch.testing.assert_close(gray[0, 0, 0], torch.tensor([0.28, 0.4 * 0.7 + 0.2 * 0.6 + 0.1 * 0.42, 0.0, 0.12]))
    torch.testing.assert_close(color[..., 0] / gray[..., 0], color[..., 1] / gray[..., 1])
    assert color[..., 2:].abs().max() < 1e-6


def test_the_sampler_keeps_the_gray_that_it_was_given_and_colours_by_the_model():
    gray = torch.rand(1, 1, 8, 16, generator=torch.Generator().manual_seed(0))
    reddish = torch.tensor([0.2, -0.1, -0.1]).view(1, 3, 1, 1)
    alphas = train_color.build_scheduler().alphas_cumprod

    def perfect(noisy, timestep, text):
        """The noise that is left if the clean picture is the gray one with a red cast."""
        alpha = alphas[timestep]
        return (noisy - alpha.sqrt() * (2 * (gray + reddish) - 1)) / (1 - alpha).sqrt()

    text = torch.zeros(1, 77, 128)
    picture = train_color.colorize(perfect, gray, text, text, guidance=1.0, seed=0)
    torch.testing.assert_close(picture.mean(dim=1, keepdim=True), gray, atol=1e-6, rtol=0)
    torch.testing.assert_close(picture, within_gamut(gray, reddish), atol=1e-4, rtol=0)


def test_colour_of_the_class_counts_and_colour_on_black_is_seen():
    reddish = torch.tensor([0.2, -0.1, -0.1])
    picture = torch.full((1, 3, 8, 16), 0.02)
    picture[:, :, :, :8] = 0.5 + reddish[None, :, None, None]
    ink, black, cosine = evaluate_color.measured(picture, reddish)
    assert (ink, black, cosine) == pytest.approx((float(reddish.norm()), 0.0, 1.0), abs=1e-6)
    picture[:, 0, :, 8:] = 0.05
    assert evaluate_color.measured(picture, -reddish)[1:] == pytest.approx((0.01 * 6**0.5, -1.0), abs=1e-6)


def test_recorded_pictures_are_coloured_by_their_own_prompt_and_by_another(tmp_path, capsys, monkeypatch):
    run, data = tmp_path / "run", tmp_path / "data"
    (run / "joint").mkdir(parents=True)
    (data / "color").mkdir(parents=True)
    names = list(train_color.SUBJECTS["image"])
    layers = np.zeros((len(names), 3, 64, 256), np.uint8)
    for number in range(len(names)):
        layers[number, number % 3, 16:48, 40:200] = 200
    np.save(data / "color" / "train.npy", layers)
    (data / "color" / "train.json").write_text(json.dumps([{"class": name} for name in names]))
    for index, name in enumerate(("cat", "tree")):
        Image.fromarray(np.full((256, 1024), 140, np.uint8)).save(run / "joint" / f"{index:04d}.png")
        line = {"row": "joint", "index": index, "image_class": name, "image_prompt": f"a drawing of a {name}", "files": {}}
        with (run / "records.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
    command = ["evaluate_color", str(run), "--data", str(data), "--steps", "10", "--sheet", str(tmp_path / "sheet.png")]
    monkeypatch.setattr(sys, "argv", command)
    evaluate_color.main()
    said = capsys.readouterr().out
    assert "joint: 2 pictures" in said and "its own prompt: chroma" in said and "cosine, own less another" in said
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (128, 768, 3)
    gray, own, other = np.split(sheet.astype(int), 3, axis=1)
    assert abs(own.mean(axis=2) - gray[..., 0]).max() <= 1, "the gray is kept"
    assert abs(own - other).max() > 8, "the prompt has a say"


@pytest.mark.skipif(not os.environ.get("COMFYUI_PATH"), reason="needs ComfyUI")
def test_the_exported_folder_is_a_native_model_with_three_channels(pack, tmp_path):
    loader = importlib.import_module(pack.__name__ + ".bridge.unet_folder")
    torch.manual_seed(0)
    unet = train_color.build_unet().eval()
    (tmp_path / "color").mkdir()
    torch.save({"average": unet.state_dict(), "step": 1, "seconds": 1.0}, tmp_path / "color" / "checkpoint.pt")
    train_color.export(tmp_path, tmp_path / "embedded-color")

    model = loader.load_unet(tmp_path / "embedded-color", {"dtype": torch.float32}, pixel_space=True).model
    alphas = train_color.build_scheduler().alphas_cumprod
    torch.testing.assert_close(model.model_sampling.sigmas, ((1 - alphas) / alphas).sqrt(), rtol=1e-4, atol=1e-5)
    pixels, text, timesteps = torch.randn(2, 3, 64, 256), torch.randn(2, 77, 128), torch.tensor([3, 700])
    with torch.inference_mode():
        native = model.diffusion_model(pixels, timesteps, context=text)
        expected = unet.half().float()(pixels, timesteps, text).sample
    torch.testing.assert_close(native, expected, atol=1e-4, rtol=1e-4)
