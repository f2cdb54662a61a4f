"""Captions: every text comes out readable, within its column."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from itsound_core import captions
from itsound_core.captions import ELLIPSIS, Typeface, clean, has_glyph, runs_right_to_left

SIZE = 16


def drawn(text: str, width: int = 400, max_lines: int = 3) -> np.ndarray:
    """The canvas with `text` in a column of `width` that begins at column 50."""
    canvas = Image.new("RGB", (width + 100, 200))
    face = Typeface(text, SIZE)
    face.draw(ImageDraw.Draw(canvas), 50, 10, width, face.wrap(text, width, max_lines), (255, 255, 255))
    return np.asarray(canvas)[..., 0]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  a castle\n\tby the sea ", "a castle by the sea"),
        ("bell\x00 \x07ring\x1b[31m", "bell ring[31m"),
        ("safe\u202eevil\u2066", "safeevil"),
        ("lone \ud83d surrogate", "lone  surrogate"),
        ("e\u0301", "\u00e9"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        *((blank, "") for blank in ("\u200b", "\u200d \u2060\ufeff", "\u00ad", "\u0301", "\u115f\u3164", "\u2800", "\ufe0f")),
        ("🐕", "🐕"),
        ("...", "..."),
    ],
)
def test_control_characters_go_and_letters_stay(text, cleaned):
    assert clean(text) == cleaned


def test_long_text_wraps_at_spaces_within_the_column():
    text = "a painting of a blooming garden with many birds, grayscale, in the style of an old lithograph"
    face = Typeface(text, SIZE)
    lines = face.wrap(text, 200, 20)
    assert " ".join(lines) == text
    assert all(0 < face.width(line) <= 200 for line in lines)
    columns = np.flatnonzero(drawn(text, 200, 20).any(0))
    assert columns.min() >= 49 and columns.max() <= 251


@pytest.mark.parametrize("text", ["x" * 300, "城堡在海边的夜晚" * 20])
def test_text_without_spaces_breaks_anywhere(text):
    lines = Typeface(text, SIZE).wrap(text, 200, 100)
    assert "".join(lines) == text and len(lines) > 5


def test_what_does_not_fit_is_cut_with_an_ellipsis():
    text = "a very long prompt " * 40
    face = Typeface(text, SIZE)
    lines = face.wrap(text, 200, 3)
    assert len(lines) == 3 and lines[-1].endswith(ELLIPSIS)
    assert face.width(lines[-1]) <= 200


def test_the_built_in_font_knows_what_it_lacks():
    font = ImageFont.load_default(SIZE)
    assert all(has_glyph(font, char) for char in "az19,! \u0301\u200d")
    assert not any(has_glyph(font, char) for char in "é\u05d0城🏰")


def test_what_the_built_in_font_lacks_is_drawn_by_a_system_font(monkeypatch):
    """A large font stands for the system's, and a built-in one without the letter Z."""

    def truetype(name, size):
        if name == "missing.ttf":
            raise OSError("cannot open resource")
        return ImageFont.load_default(2 * size)

    def rows(text):
        return np.flatnonzero(drawn(text).any(1)).size

    plain = rows("aZ")
    monkeypatch.setattr(captions, "SYSTEM_FONTS", ("missing.ttf", "large.ttf"))
    monkeypatch.setattr(captions, "ImageFont", SimpleNamespace(load_default=ImageFont.load_default, truetype=truetype))
    assert rows("aZ") == plain
    monkeypatch.setattr(captions, "has_glyph", lambda font, char: char != "Z" or font.size > SIZE)
    assert rows("Z") > 1.5 * plain and rows("a") < plain
    assert rows("aaZ") == rows("Z"), "one font draws the whole text where it can"
    monkeypatch.setattr(captions, "SYSTEM_FONTS", ("missing.ttf",))
    assert rows("Z") == plain, "what no font has is drawn as the built-in font draws it"


def test_right_to_left_text_ends_at_the_right_edge_of_its_column():
    assert runs_right_to_left("שלום castle") and not runs_right_to_left("castle שלום") and not runs_right_to_left("12")
    columns = np.flatnonzero(drawn("שלום").any(0))
    assert columns.max() >= 440 and columns.min() > 380


def test_an_empty_text_has_no_lines():
    assert Typeface("", SIZE).wrap("", 100, 3) == []
