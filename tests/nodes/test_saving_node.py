"""The saved pair: lossless, under one name, inside the output folder, and sure of what it is."""

import importlib
import json

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from itsound_core.colorize import color_spectrogram


@pytest.fixture(scope="module")
def nodes(pack):
    return importlib.import_module(pack.__name__ + ".nodes.saving")


@pytest.fixture
def output(tmp_path, monkeypatch):
    import folder_paths

    folder = tmp_path / "output"
    folder.mkdir()
    monkeypatch.setattr(folder_paths, "output_directory", str(folder))
    return folder


def pictures(batch: int = 1, width: int = 64) -> torch.Tensor:
    return torch.rand(batch, 256, width, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, -1, 3)


def sounds(batch: int = 1, channels: int = 1, rate: int = 16000) -> dict:
    samples = 0.3 * torch.randn(batch, channels, rate // 2, generator=torch.Generator().manual_seed(1))
    return {"waveform": samples.clamp(-1, 1), "sample_rate": rate}


def names(folder) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def load(path) -> torch.Tensor:
    """As LoadImage does."""
    return torch.from_numpy(np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255.0)[None]


def test_each_pair_has_one_name_and_the_count_goes_on(nodes, output):
    first = nodes.SaveImageThatSounds.execute(pictures(2), sounds(2), "bells/castle").ui
    assert names(output) == [f"bells/castle_0000{n}_.{kind}" for n in (1, 2) for kind in ("flac", "png")]
    for kind, suffix in (("images", "png"), ("audio", "flac")):
        files = [(file["subfolder"], file["filename"], str(getattr(file["type"], "value", file["type"]))) for file in first[kind]]
        assert files == [("bells", f"castle_0000{n}_.{suffix}", "output") for n in (1, 2)]
    nodes.SaveImageThatSounds.execute(pictures(), sounds(), "bells/castle")
    assert names(output)[-2:] == ["bells/castle_00003_.flac", "bells/castle_00003_.png"]
    (output / "bells" / "castle_00007_.flac").write_bytes(b"")
    nodes.SaveImageThatSounds.execute(pictures(), sounds(), "bells/castle")
    assert names(output)[-2:] == ["bells/castle_00008_.flac", "bells/castle_00008_.png"]


def test_picture_and_sound_come_back(nodes, output):
    image, audio = pictures(), sounds(channels=2, rate=44100)
    nodes.SaveImageThatSounds.execute(image, audio, "pair")
    assert (load(output / "pair_00001_.png") - image).abs().max() <= 0.5 / 255 + 1e-6
    samples, rate = soundfile.read(output / "pair_00001_.flac", always_2d=True)
    assert rate == 44100 and np.abs(samples.T - audio["waveform"][0].numpy()).max() <= 2.0**-23


def test_a_coloured_pair_plays_as_the_gray_one_to_the_bit(nodes, output, pack):
    audio_nodes = importlib.import_module(pack.__name__ + ".nodes.audio")
    gray = pictures()[..., :1].permute(0, 3, 1, 2)
    colour = torch.randn(1, 3, *gray.shape[2:], generator=torch.Generator().manual_seed(2)) * 0.3
    coloured = color_spectrogram(gray, colour - colour.mean(1, keepdim=True)).pixels.movedim(1, -1)
    nodes.SaveImageThatSounds.execute(coloured, sounds(), "colour")
    nodes.SaveImageThatSounds.execute(gray.movedim(1, -1), sounds(), "gray")
    loaded = [load(output / f"{name}_00001_.png") for name in ("colour", "gray")]
    assert (loaded[0] - loaded[1]).abs().max() > 0.1, "there is colour in it"
    played = [audio_nodes.SpectrogramToAudio.execute(picture, iterations=2).args[0]["waveform"] for picture in loaded]
    assert torch.equal(*played)


def test_both_files_carry_the_workflow_and_what_they_are(nodes, output, pack, monkeypatch):
    import nodes as comfyui

    loaders = importlib.import_module(pack.__name__ + ".nodes.loaders")
    sampling = importlib.import_module(pack.__name__ + ".nodes.sampling")
    known = {node.GET_SCHEMA().node_id: node for node in (*loaders.NODES, *sampling.NODES)}
    monkeypatch.setattr(comfyui, "NODE_CLASS_MAPPINGS", {**comfyui.NODE_CLASS_MAPPINGS, **known})
    prompt = {
        "1": {"class_type": "LoadDualUNets", "inputs": {"image_model_name": "embedded"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a castle 城", "clip": ["1", 1]}},
        "3": {"class_type": "MultimodalKSampler", "inputs": {"image_model": ["1", 0], "image_positive": ["2", 0], "seed": 5}},
        "4": {"class_type": "LoadAudio", "inputs": {}},
        "5": {"class_type": "SaveImageThatSounds", "inputs": {"image": ["3", 0], "audio": ["4", 0]}},
    }
    hidden = {"UNIQUE_ID": "5", "PROMPT": prompt, "EXTRA_PNGINFO": {"workflow": {"nodes": [1]}}}
    nodes.SaveImageThatSounds.PREPARE_CLASS_CLONE({"hidden_inputs": hidden}).execute(pictures(), sounds(), "told")

    png = Image.open(output / "told_00001_.png").info
    assert json.loads(png["prompt"]) == prompt and json.loads(png["workflow"]) == {"nodes": [1]}
    assert png["Title"] == "a castle 城"
    assert png["Comment"] == "AI-generated image that sounds. Image prompt: a castle 城. Seed: 5. Models: image_model_name=embedded"
    assert "trainedAlgorithmicMedia" in png["XML:com.adobe.xmp"]

    import av

    with av.open(str(output / "told_00001_.flac")) as container:
        tags = {name.lower(): text for name, text in container.metadata.items()}
    assert json.loads(tags["prompt"]) == prompt and json.loads(tags["workflow"]) == {"nodes": [1]}
    assert tags["comment"] == "An image that sounds", "this sound is a recording"


@pytest.mark.parametrize(
    ("image", "audio", "prefix", "message"),
    [
        (pictures(2), sounds(3), "pair", "image is a batch of 2 and audio a batch of 3"),
        (torch.zeros(0, 8, 8, 3), sounds(), "pair", "image has the shape"),
        (torch.full((1, 8, 8, 3), float("nan")), sounds(), "pair", "image holds 192 values that are NaN"),
        (pictures(), None, "pair", "audio is None"),
        (pictures(), sounds(), " / ", "filename_prefix is ' / ', which leads out of the folder"),
        (pictures(), sounds(), "..", "filename_prefix is '..'"),
        (pictures(), sounds(), " ", "filename_prefix is ' ', which leaves a name empty. Give a plain name"),
        (pictures(), sounds(), "a/n\0l", "filename_prefix is .*holds"),
        (pictures(), sounds(), "n" * 251, "filename_prefix is .*bytes too long"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(nodes, output, image, audio, prefix, message):
    with pytest.raises(ValueError, match="SaveImageThatSounds: " + message):
        nodes.SaveImageThatSounds.execute(image, audio, prefix)
    assert names(output) == []


@pytest.mark.parametrize("prefix", ["../outside", "a/../../outside", "/outside"])
def test_no_prefix_leads_out_of_the_output_folder(nodes, output, prefix):
    with pytest.raises(Exception, match="leads out of the folder"):
        nodes.SaveImageThatSounds.execute(pictures(), sounds(), prefix)
    assert names(output.parent) == []


@pytest.fixture
def another_disk(tmp_path):
    folder = tmp_path / "another disk"
    folder.mkdir()
    return folder


def test_a_folder_linked_to_another_disk_takes_the_pair(nodes, output, another_disk):
    (output / "bells").symlink_to(another_disk, target_is_directory=True)
    for _ in range(2):
        saved = nodes.SaveImageThatSounds.execute(pictures(), sounds(), "bells/%width%/castle").ui
    assert names(another_disk) == [f"64/castle_0000{n}_.{kind}" for n in (1, 2) for kind in ("flac", "png")]
    assert (saved["images"][0]["subfolder"], saved["images"][0]["filename"]) == ("bells/64", "castle_00002_.png")


def test_an_output_folder_that_is_a_link_takes_the_pair(nodes, tmp_path, another_disk, monkeypatch):
    import folder_paths

    (tmp_path / "output").symlink_to(another_disk, target_is_directory=True)
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    nodes.SaveImageThatSounds.execute(pictures(), sounds(), "castle")
    assert names(another_disk) == ["castle_00001_.flac", "castle_00001_.png"]


def test_a_link_to_a_disk_that_is_not_there_is_named_and_nothing_is_written_in_its_place(nodes, output, another_disk):
    another_disk.rmdir()
    (output / "bells").symlink_to(another_disk, target_is_directory=True)
    with pytest.raises(ValueError, match="SaveImageThatSounds: cannot write to .*bells"):
        nodes.SaveImageThatSounds.execute(pictures(), sounds(), "bells/castle")
    assert not another_disk.exists()


def test_a_prefix_may_hold_the_time_and_the_size_as_core_fills_them_in(nodes, output):
    import folder_paths

    prefix = "%year%-%month%/%day%x%height%/%width%_%other%"
    folder, name, *_ = folder_paths.get_save_image_path(prefix, str(output), 64, 256)
    nodes.SaveImageThatSounds.execute(pictures(), sounds(), prefix)
    assert (output / folder / f"{name}_00001_.png").exists()


def test_one_sound_goes_with_every_picture_and_alpha_stays(nodes, output):
    image = torch.rand(2, 16, 16, 4)
    nodes.SaveImageThatSounds.execute(image, sounds(), "pair%batch_num%")
    assert names(output) == ["pair0_00001_.flac", "pair0_00001_.png", "pair1_00002_.flac", "pair1_00002_.png"]
    assert Image.open(output / "pair1_00002_.png").mode == "RGBA"


@pytest.fixture
def full_disk(tmp_path):
    """An output folder on a disk of 100 kB."""
    import os
    import subprocess

    folder = tmp_path / "full"
    folder.mkdir()
    if (
        not hasattr(os, "geteuid")
        or os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", folder]).returncode
    ):
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_on_a_full_disk_a_pair_is_whole_or_not_there_and_the_error_says_where(nodes, full_disk, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(full_disk))
    with pytest.raises(ValueError, match="SaveImageThatSounds: cannot write to .*No space left.*Make room"):
        for _ in range(9):
            nodes.SaveImageThatSounds.execute(pictures(), sounds(), "pair")
    found = names(full_disk)
    assert len(found) % 2 == 0 and [name.split(".")[0] for name in found[::2]] == [name.split(".")[0] for name in found[1::2]]
    for name in found:
        assert load(full_disk / name).shape[1] == 256 if name.endswith("png") else len(soundfile.read(full_disk / name)[0]) == 8000


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4], ids=["picture written", "sound written", "picture named", "sound named"])
def test_whichever_step_of_a_pair_fails_nothing_of_it_is_left(nodes, output, monkeypatch, fails_at):
    import os
    from pathlib import Path

    calls, write, replace = iter(range(1, 9)), Path.open, os.replace

    def failing(original):
        def call(*arguments, **options):
            if (original is replace or "wb" in arguments) and next(calls) == fails_at:
                raise OSError(5, "Input/output error")
            return original(*arguments, **options)

        return call

    monkeypatch.setattr(Path, "open", failing(write))
    monkeypatch.setattr(os, "replace", failing(replace))
    with pytest.raises(ValueError, match="Input/output error"):
        nodes.SaveImageThatSounds.execute(pictures(), sounds(), "pair")
    assert names(output) == []


def test_on_a_slow_disk_a_cancel_waits_for_a_megabyte_at_most(pack, tmp_path):
    import importlib

    written = []

    def cancel(done, size):
        written.append((tmp_path / "a.flac.part").stat().st_size)
        raise InterruptedError

    saving = importlib.import_module(f"{pack.__name__}.bridge.saving")
    with pytest.raises(InterruptedError):
        saving.write_together({tmp_path / "a.flac": bytes(10_000_000)}, cancel)
    assert written[0] <= 2**20 and list(tmp_path.iterdir()) == []


def test_a_file_where_the_folder_should_be_is_named(nodes, output):
    (output / "bells").write_bytes(b"")
    with pytest.raises(ValueError, match="SaveImageThatSounds: cannot write to .*bells"):
        nodes.SaveImageThatSounds.execute(pictures(), sounds(), "bells/castle")
