"""The held-out judges: that they learn from nothing a generator sees, and how they are measured."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("resvg_py", reason="only needed to rebuild the embedded models")
pytest.importorskip("tinysoundfont", reason="only needed to rebuild the embedded models")
pytest.importorskip("diffusers")
TRAIN = Path(__file__).parents[3] / "lab" / "train"
from lab.train import judge_data, judge_windows, judges, sounds  # noqa: E402


def test_a_judge_draws_from_no_icon_set_that_a_generator_learns_from_or_is_chosen_by():
    for entry in json.loads((TRAIN / "drawings.json").read_text()):
        assert judge_data.admitted(entry["set"], "MIT") == (entry["split"] == "heldout"), entry


@pytest.mark.parametrize(("prefix", "licence", "admitted"), [("openmoji", "CC-BY-SA-4.0", True), ("mdi-light", "OFL-1.1", False)])
def test_a_licence_is_no_excuse_for_a_relative_of_the_generators_sets(prefix, licence, admitted):
    assert judge_data.admitted(prefix, licence) == admitted


def test_every_class_of_sound_has_sources_to_learn_from_and_others_kept_apart():
    known = set()
    for label in sounds.CLASSES:
        split = {name: set().union(*judge_data.sources(label, name)) for name in ("train", "own")}
        assert split["train"] and split["own"] and not split["train"] & split["own"]
        known |= split["own"]
    assert known == set(judge_data.OWN_SOURCES.split())


def test_files_are_read_from_a_qt_resource_container(tmp_path):
    name, contents = "bark.ogg".encode("utf-16-be"), b"OggS"
    data = struct.pack(">I", len(contents)) + contents
    names = struct.pack(">HI", len(name) // 2, 0) + name
    nodes = struct.pack(">IHIIQ", 0, 2, 1, 1, 0) + struct.pack(">IHIIQ", 0, 0, 0, 0, 0)
    header = struct.pack(">4sIIIII", b"qres", 3, 24 + len(data) + len(names), 24, 24 + len(data), 0)
    (tmp_path / "sounds.rcc").write_bytes(header + data + names + nodes)
    assert list(judge_data.qt_resources(tmp_path / "sounds.rcc")) == [("bark.ogg", contents)]


def test_a_recorded_note_is_played_at_the_scores_pitches():
    take = np.sin(2 * np.pi * 440 * np.arange(2 * sounds.RATE) / sounds.RATE).astype(np.float32)
    clip = judge_data.perform(take, [(0.0, 57, 127, 0.9), (1.0, 60, 127, 0.9), (2.0, 63, 127, 0.9)])
    peaks = [np.abs(np.fft.rfft(clip[second * sounds.RATE :][: sounds.RATE])).argmax() for second in range(3)]
    assert peaks == pytest.approx([440 * 2 ** (-3 / 12), 440, 440 * 2 ** (3 / 12)], abs=1)


@pytest.mark.parametrize("augment", [judge_windows.weathered, judge_windows.distorted])
def test_augmented_canvases_stay_canvases_and_keep_what_they_show(augment):
    canvas = torch.zeros(32, 1, 64, 96)
    canvas[..., 20:44, 30:66] = 0.8
    changed = augment(canvas, judge_windows.Random(0))
    assert changed.shape == canvas.shape and changed.min() >= 0 and changed.max() <= 1
    contrast = changed[..., 24:40, 36:60].mean(dim=(1, 2, 3)) - changed[..., :12, :20].mean(dim=(1, 2, 3))
    assert (contrast.abs() > 0.1).float().mean() > 0.8


def test_rows_repeat_a_shape_of_the_drawn_class(tmp_path):
    shapes = np.zeros((14, 4, 96, 96), np.uint8)
    shapes[:, :, 20:76, 30:66] = 255
    np.save(tmp_path / "shapes.npy", shapes)
    entries = [{"class": label, "split": "train", "outlined": False} for label in judges.CLASSES["picture"]]
    (tmp_path / "drawings.json").write_text(json.dumps(entries))
    canvas, labels = judge_windows.Rows(tmp_path).draw(16, 96, judge_windows.Random(0))
    assert canvas.shape == (16, 1, 64, 96) and labels.shape == (16,)
    assert all(0.05 < item < 0.9 for item in canvas.mean(dim=(1, 2, 3)).tolist())


def test_a_report_counts_what_was_taken_for_what():
    result = judges.report(torch.tensor([0, 0, 1, 1]), ["castle", "dog", "dog", "dog"], ("castle", "dog"))
    assert (result["accuracy"], result["classes"]) == (0.75, {"castle": "1/1", "dog": "2/3"})
    assert result["confusions"] == ["dog -> castle: 1"]
