"""The picture data: how a drawing gets its class and its side of the split, and how canvases are laid out."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("resvg_py", reason="only needed to rebuild the embedded models")
pytest.importorskip("scipy")
TRAIN = Path(__file__).parents[3] / "lab" / "train"
from lab.train import canvases, drawings  # noqa: E402


@pytest.mark.parametrize(
    ("name", "label"),
    [("bell-fill", "bell"), ("dog-face", "dog"), ("baseline-train", "train"), ("car-sport-rounded-fill", None), ("hot-dog", None)],
)
def test_a_name_counts_only_if_nothing_but_style_is_added_to_a_class(name, label):
    assert drawings.class_of(name) == label


def test_no_icon_family_stands_on_two_sides_of_the_split():
    entries = json.loads((TRAIN / "drawings.json").read_text())
    sides = {entry["family"]: set() for entry in entries}
    for entry in entries:
        sides[entry["family"]].add(entry["split"])
        assert entry["family"] == drawings.family_of(entry["set"])
    assert all(len(splits) == 1 for splits in sides.values())
    assert {entry["class"] for entry in entries if entry["split"] == "heldout"} == set(drawings.NAMES)


def test_an_outline_is_dropped_and_a_filled_glyph_is_white():
    circle = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><circle cx="12" cy="12" r="10" {}/></svg>'
    assert drawings.rasterise(circle.format('fill="none" stroke="#000"')) is None
    gray, alpha = drawings.rasterise(circle.format('fill="#123456"'))
    assert gray.shape == alpha.shape == (256, 256)
    assert gray[128, 128] == 255 and alpha[128, 128] == 255 and alpha[0, 0] == 0


def test_a_row_closes_on_itself_and_stands_on_black():
    square = np.full((2, 100, 100), 255, np.uint8)
    canvas = np.zeros((canvases.HEIGHT, canvases.WIDTH), np.float32)
    canvases.row(canvas, [square], np.random.default_rng(0))
    columns = canvas.max(axis=0) > 0.5
    copies = np.count_nonzero(columns & ~np.roll(columns, 1))
    assert 2 <= copies <= 5
    assert np.mean(canvas != np.roll(canvas, canvases.WIDTH // copies, axis=1)) < 0.05
    assert canvas[0].max() == 0 and canvas[-1].max() == 0


def test_two_things_take_turns_in_a_row():
    wide, tall = np.full((2, 50, 100), 255, np.uint8), np.full((2, 100, 50), 255, np.uint8)
    for seed in range(20):
        canvas = np.zeros((canvases.HEIGHT, canvases.WIDTH), np.float32)
        canvases.row(canvas, [wide, tall], np.random.default_rng(seed))
        ink = canvas > 0.5
        starts = np.flatnonzero(ink.any(axis=0) & ~np.roll(ink.any(axis=0), 1))
        heights = [np.count_nonzero(ink[:, (start + 4) % canvases.WIDTH]) for start in starts]
        assert len(heights) % 2 == 0
        assert all((a < b) != (b < c) for a, b, c in zip(heights, heights[1:], heights[2:], strict=False))


def test_typical_drawings_are_those_most_like_the_others():
    drawings = np.zeros((12, 2, 64, 64), np.uint8)
    drawings[:10, :, 16:48, 16:48] = 255
    drawings[10, :, :8] = 255
    drawings[11, :, :, 56:] = 255
    assert set(canvases.typical_drawings(drawings, list(range(12)), 10)) == set(range(10))
