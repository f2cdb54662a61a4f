"""PlayImage: the files that it gives the browser, and what it tells of them."""

import importlib
import json
from types import SimpleNamespace

import folder_paths
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from itsound_core.spectrogram import AUFFUSION, mel_filters

PLAY = {"class_type": "PlayImage", "inputs": {}}


@pytest.fixture(scope="module")
def nodes(pack):
    return importlib.import_module(pack.__name__ + ".nodes.player")


@pytest.fixture
def execute(nodes, tmp_path, monkeypatch):
    """PlayImage's ui output, with the paths of its files in the place of their names."""
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))

    def run(image: torch.Tensor, audio: dict, **options: str) -> dict:
        node = nodes.PlayImage.PREPARE_CLASS_CLONE(None)
        node.hidden = SimpleNamespace(prompt={"1": PLAY}, extra_pnginfo={"workflow": {"id": "w"}}, unique_id="1")
        ui = node.execute(image, audio, **options).ui
        for item in ui["player"]:
            for part in ("picture", "sound"):
                assert item[part]["type"] == "temp"
                item[part] = tmp_path / item[part]["subfolder"] / item[part]["filename"]
        return ui

    return run


@pytest.fixture
def play(execute):
    return lambda image, audio: execute(image, audio)["player"]


def noise(seconds: float, rate: int = 16000, channels: int = 1, batch: int = 1) -> dict:
    samples = torch.rand(batch, channels, round(seconds * rate), generator=torch.Generator().manual_seed(0)) - 0.5
    return {"waveform": samples, "sample_rate": rate}


def test_picture_and_sound_are_whole_and_carry_the_workflow(play):
    levels = torch.arange(256).repeat(256, 4)
    (item,) = play((levels.float() / 255)[None, ..., None].expand(-1, -1, -1, 3), noise(10.24))
    picture = Image.open(item["picture"])
    assert (np.asarray(picture)[..., 0] == levels.numpy()).all(), "every level is stored as it is"
    assert json.loads(picture.text["prompt"]) == {"1": PLAY} and json.loads(picture.text["workflow"]) == {"id": "w"}
    samples, rate = soundfile.read(item["sound"])
    assert picture.text["Comment"] == "An image that sounds", "nothing generated it"
    assert rate == 16000 and np.abs(samples - noise(10.24)["waveform"][0, 0].numpy()).max() < 1e-4
    assert item["seconds"] == item["picture_seconds"] == 10.24


def test_a_spectrogram_keeps_its_own_length_and_another_picture_takes_its_sounds(play):
    assert [play(torch.zeros(1, height, 500, 3), noise(3.0))[0]["picture_seconds"] for height in (256, 255)] == [5.0, 3.0]
    assert [play(torch.zeros(1, height, 500, 3), noise(3.0))[0]["is_spectrogram"] for height in (256, 255)] == [True, False]


def test_a_rows_frequency_is_the_one_at_which_its_band_is_most_sensitive(execute):
    (hertz,) = execute(torch.zeros(1, 1, 1, 1), noise(0.1))["row_hertz"]
    bins = mel_filters().argmax(1).flip(0) * AUFFUSION.sample_rate / AUFFUSION.n_fft
    assert (torch.tensor(hertz) - bins).abs().max() < AUFFUSION.sample_rate / AUFFUSION.n_fft


@pytest.mark.parametrize(("shape", "size"), [((1, 1, 1, 1), (1, 1)), ((1, 300, 1, 4), (1, 300))])
def test_small_gray_and_transparent_pictures_are_played(play, shape, size):
    assert Image.open(play(torch.zeros(*shape), noise(0.01))[0]["picture"]).size == size


def test_one_goes_with_each_of_a_batch_and_many_channels_are_mixed(play):
    assert len(play(torch.zeros(3, 8, 8, 3), noise(0.1))) == len(play(torch.zeros(1, 8, 8, 3), noise(0.1, batch=3))) == 3
    assert soundfile.read(play(torch.zeros(1, 8, 8, 3), noise(0.1, channels=2))[0]["sound"])[0].shape == (1600, 2)
    assert soundfile.read(play(torch.zeros(1, 8, 8, 3), noise(0.1, channels=6))[0]["sound"])[0].shape == (1600,)


@pytest.mark.parametrize(
    ("image", "audio", "message"),
    [
        (torch.zeros(0, 8, 8, 3), noise(0.1), "image has the shape .*Connect"),
        (torch.zeros(1, 8, 8, 3), None, "audio is None.*Use another file"),
        (torch.zeros(1, 8, 8, 3), noise(0.0), "audio has zero length.*duration"),
        (torch.zeros(2, 8, 8, 3), noise(0.1, batch=3), "image is a batch of 2 and audio a batch of 3.*Give both"),
    ],
)
def test_bad_input_is_refused_with_node_culprit_and_remedy_before_anything_is_written(play, tmp_path, image, audio, message):
    with pytest.raises(ValueError, match="PlayImage: " + message):
        play(image, audio)
    assert list(tmp_path.iterdir()) == []


def test_the_rows_of_a_square_picture_are_one_sound(execute):
    square, sound = torch.rand(1, 512, 512, 3), noise(10.24)
    (item,) = execute(square, sound, view="two-row square")["player"]
    assert item["rows"] == 2 and item["is_spectrogram"] and item["picture_seconds"] == pytest.approx(10.24)
    (plain,) = execute(square, sound)["player"]
    assert plain["rows"] == 1 and not plain["is_spectrogram"]
    with pytest.raises(ValueError, match="PlayImage: image is 256 pixels high, but view two-row square has 512"):
        execute(torch.rand(1, 256, 512, 3), sound, view="two-row square")
