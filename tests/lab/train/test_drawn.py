"""What the image UNet learns from: chosen drawings, shaded, in rows, night scenes and engravings, each called by words that suit it."""

import json
import random
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("resvg_py", reason="only needed to rebuild the embedded models")
pytest.importorskip("scipy")
from itsound_core.spectrogram import band_frequencies  # noqa: E402
from lab.train import drawings, drawn, embeddings, notice, prompts, relief, scenes, typical  # noqa: E402

ENTRIES = json.loads((Path(drawings.__file__).with_suffix(".json")).read_text())
CLASSES = list(drawings.NAMES)


def square(size: int = 100) -> np.ndarray:
    """A gray square with a white border, so that it is not flat."""
    drawing = np.full((2, size, size), 255, np.uint8)
    drawing[0, 20:-20, 20:-20] = 120
    return drawing


@pytest.mark.parametrize("chosen", [typical.TYPICAL, typical.APART], ids=["learnt", "apart"])
def test_every_chosen_drawing_is_of_its_class_and_on_the_training_side(chosen):
    training = {(entry["class"], f"{entry['set']}:{entry['name']}") for entry in ENTRIES if entry["split"] == "train"}
    assert list(chosen) == CLASSES
    assert {(label, name) for label, names in chosen.items() for name in names.split()} <= training


def test_emoji_are_of_a_family_that_is_learnt_from_and_what_stands_apart_is_not_learnt():
    assert drawings.family_of("fluent-emoji-3d") not in drawings.HELDOUT | drawings.DEVELOPMENT
    assert list(typical.EMOJI) == CLASSES
    assert not any(typical.APART[label] in typical.TYPICAL[label].split() for label in CLASSES)


def test_a_drawing_that_is_held_out_cannot_be_learnt(tmp_path):
    entries = [{"class": "dog", "set": "noto", "name": "dog", "split": "heldout"}]
    (tmp_path / "pictures").mkdir()
    np.save(tmp_path / "pictures" / "drawings.npy", np.zeros((1, 2, 8, 8), np.uint8))
    (tmp_path / "pictures" / "drawings.json").write_text(json.dumps(entries))
    with pytest.raises(ValueError, match="noto:dog"):
        typical.icon_drawings(tmp_path, {"dog": "noto:dog"})


def test_relief_lights_a_flat_glyph_from_the_upper_left_and_keeps_its_outline():
    rows, columns = np.mgrid[:128, :128] - 63.5
    disc = np.where(np.hypot(rows, columns) < 50, 255, 0).astype(np.uint8)
    glyph = np.stack([np.full_like(disc, 255), disc])
    shaded = relief.relief(glyph)
    assert relief.flat(glyph) and not relief.flat(shaded)
    assert (shaded[1] == disc).all()
    assert shaded[0, 32, 32] > shaded[0, 64, 64] > shaded[0, 96, 96]


@pytest.mark.parametrize("label", CLASSES)
def test_a_scene_closes_on_itself_under_a_dark_sky_and_its_thing_is_large(label):
    for seed in range(3):
        canvas = scenes.scene(label, square(), [square(20)], np.random.default_rng(seed))
        assert canvas.shape == (256, 1024) and canvas.min() >= 0 and canvas.max() <= 1
        bright = canvas > 0.7  # the border of a square, and the moon
        assert np.ptp(np.flatnonzero(bright.sum(axis=1) > 60)) >= 0.6 * 256 - 12
        assert np.median(canvas[:40]) < 0.06
        steps = np.abs(np.diff(canvas, axis=1, append=canvas[:, :1]))
        assert (steps[:, -1] > 0.2).mean() <= (steps[:, :-1] > 0.2).mean(axis=0).max()


def test_engraved_lines_lie_at_equal_distances_in_frequency():
    canvas = np.full((256, 1024), 0.35, np.float32)
    lines = scenes.engraved(canvas, np.random.default_rng(0))[:, 0]
    peaks = [row for row in range(60, 255) if lines[row] > 0.1 and lines[row] >= lines[row - 1] and lines[row] > lines[row + 1]]
    frequencies = band_frequencies().numpy()[::-1][peaks]
    distances = -np.diff(frequencies[frequencies < 1500])
    assert len(distances) >= 5
    assert np.ptp(distances) < 0.35 * np.mean(distances)
    apart = np.diff(peaks)
    assert apart.min() >= 5 and apart[-1] > 1.5 * apart[0]


def test_engraved_lines_are_thicker_where_the_picture_is_brighter_and_none_where_it_is_black():
    canvas = np.tile(np.linspace(0, 1, 4, dtype=np.float32).repeat(256)[None], (256, 1))
    quarters = scenes.engraved(canvas, np.random.default_rng(0)).reshape(256, 4, 256)
    assert quarters[:, 0].max() == 0
    lit = [(quarter > quarter.max() / 2).mean() for quarter in quarters[:, 1:].swapaxes(0, 1)]
    assert all(narrow < wide for narrow, wide in pairwise(lit)) and lit[-1] < 0.95


def test_strokes_begin_sharply_and_fade():
    lines = scenes.stroked(np.full((256, 1024), 0.6, np.float32), np.random.default_rng(0))[128]
    steps = np.diff(lines)
    assert steps.max() > 4 * -steps.min()
    assert (steps < 0).mean() > 0.8


def test_only_an_engraving_is_called_one_and_it_always_is():
    rng, words = random.Random(0), re.compile(r"lithograph|engraving|woodcut|print\b|ink\b")
    for _ in range(300):
        assert words.search(prompts.draw_prompt("image", "castle", rng, manner="engraving"))
        for manner in ("row", "scene"):
            assert not words.search(prompts.draw_prompt("image", "castle", rng, manner=manner))
        assert "black background" not in prompts.draw_prompt("image", "castle", rng, manner="scene")


def test_prompts_of_no_manner_are_those_the_text_encoder_was_trained_on():
    assert prompts.draw_prompt("image", "castle", random.Random(1)) == "a charcoal drawing of castles, clear shape"
    assert prompts.draw_prompt("image", "castle+dog", random.Random(3)) == "a pencil drawing of bright a chateau and cute dogs"
    assert prompts.draw_prompt("audio", "bell", random.Random(2)) == "a church bell, in a room"


def test_every_canvas_is_called_by_prompts_that_there_are_in_words_the_encoder_knows():
    keyed = embeddings.drawn_prompts(random.Random(0))
    images = {label: {f"{label} {i}": square() for i in range(3)} for label in ("dog", "tree")}
    images["tree"] |= {name: square() for name in drawn.FIRS}
    made = list(drawn.learnt(images, rounds=1))
    assert {entry["prompts"] for _, entry in made} <= set(keyed)
    assert {entry["manner"] for _, entry in made} == {"row", "scene", "engraving"}
    assert {entry["class"] for _, entry in made} == {"dog", "tree", "dog+tree"}
    assert sum(entry["manner"] == "row" for _, entry in made if "+" not in entry["class"]) == 0.6 * 20
    assert all(canvas.dtype == np.uint8 and canvas.shape == (256, 1024) for canvas, _ in made)
    known = set(prompts.words("image"))
    assert all(set(re.findall("[a-z]+", wording)) <= known for wordings in keyed.values() for wording in wordings)


def test_every_set_that_is_learnt_from_is_credited():
    text = notice.NOTICE.read_text()
    assert all(f"(`{entry['set']}`)" in text for entry in ENTRIES if entry["split"] == "train")
    assert f"Fluent Emoji 3D | [Microsoft Corporation]({notice.EMOJI_SOURCE})" in text
    assert f"| {sum(len(codes.split()) for codes in typical.EMOJI.values())} |\n" in text
