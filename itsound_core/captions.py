"""Captions: any Unicode text, wrapped and drawn by fonts that have its characters."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence

from PIL import ImageDraw, ImageFont

LINE_SPACING = 1.4
ELLIPSIS = "…"
SYSTEM_FONTS = (
    *("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "FreeSans.ttf", "NotoSans-Regular.ttf"),  # Linux
    *("NotoSansDevanagari-Regular.ttf", "NotoSansThai-Regular.ttf", "NotoEmoji-Regular.ttf", "Symbola_hint.ttf"),
    *("segoeui.ttf", "msyh.ttc", "meiryo.ttc", "malgun.ttf", "Nirmala.ttf", "seguisym.ttf", "seguiemj.ttf"),  # Windows
    *("Arial Unicode.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "Apple Symbols.ttf"),  # macOS
)
"""Fonts that systems bring; Pillow looks them up in each system's own folders."""

JOINERS = "\u200c\u200d"
BLANKS = "\u115f\u1160\u2800\u3164\uffa0"
"""Fillers of Hangul and the empty pattern of Braille: letters and signs by their category, and nothing to see."""
UNASSIGNED = "\U0010ffff"
WIDE = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
PIECES = re.compile(rf"[{WIDE}]|[^\s{WIDE}]+|\s+")
"""Where a line may break: at spaces, and beside any character of the scripts that have none."""


def clean(text: str) -> str:
    """The text on one line, without control characters, lone surrogates and overrides of the writing direction.

    Empty where nothing of it can be seen: joiners, accents and fillers alone.
    """
    spaced = " ".join(unicodedata.normalize("NFC", text).split())
    kept = "".join(char for char in spaced if unicodedata.category(char)[0] != "C" or char in JOINERS)
    return kept if any(unicodedata.category(char)[0] in "LNPS" and char not in BLANKS for char in kept) else ""


def runs_right_to_left(text: str) -> bool:
    """Whether the first character with a direction of its own is written from right to left."""
    directions = (unicodedata.bidirectional(char) for char in text)
    return next((direction for direction in directions if direction in ("L", "R", "AL")), "L") != "L"


class Typeface:
    """The font that has most of a text, Pillow's built-in one or a system's, and others for the rest of it.

    What none of them has is drawn as an empty box.
    """

    def __init__(self, text: str, size: int) -> None:
        """Find the fonts, `size` pixels high, for the characters of `text`."""
        characters = {*text, ELLIPSIS}
        built_in = ImageFont.load_default(size)
        covered = {built_in: {char for char in characters if has_glyph(built_in, char)}}
        for name in SYSTEM_FONTS:
            missing = characters.difference(*covered.values())
            if not missing:
                break
            try:
                font = ImageFont.truetype(name, size)
            except OSError:  # not on this system
                continue
            if any(has_glyph(font, char) for char in missing):
                covered[font] = {char for char in characters if has_glyph(font, char)}
        self._main = max(covered, key=lambda font: len(covered[font]))
        others = {char: font for font in covered for char in characters if char in covered[font]}
        self._fonts = {char: self._main if char in covered[self._main] else others.get(char, self._main) for char in characters}
        self.line_height = round(LINE_SPACING * size)

    def _runs(self, text: str) -> Iterator[tuple[ImageFont.FreeTypeFont, str]]:
        """Pieces of the text, each with its font."""
        if any(unicodedata.bidirectional(char) in ("R", "AL") for char in text):
            yield self._main, text  # whole: its pieces would stand in another order than they are written
            return
        fonts = []
        for char in text:
            fonts.append(fonts[-1] if fonts and belongs_to_the_last(char) else self._fonts[char])
        for font, run in itertools.groupby(zip(fonts, text, strict=True), key=lambda pair: pair[0]):
            yield font, "".join(char for _, char in run)

    def width(self, text: str) -> float:
        """Width in pixels of a text of the typeface's characters."""
        return sum(font.getlength(run) for font, run in self._runs(text))

    def wrap(self, text: str, width: float, max_lines: int) -> list[str]:
        """`text` in lines of at most `width` pixels; where max_lines cuts it off, the last one ends in an ellipsis."""
        lines = [""]
        for piece in PIECES.findall(text):
            if self.width(lines[-1] + piece.rstrip()) <= width:
                lines[-1] += piece
                continue
            if len(lines) > max_lines:
                break
            lines.append("")
            for char in piece.lstrip():  # a word wider than a line breaks anywhere
                if lines[-1] and self.width(lines[-1] + char) > width:
                    lines.append("")
                lines[-1] += char
        lines = [line.strip() for line in lines if line.strip()]
        if len(lines) > max_lines:
            last = lines[max_lines - 1]
            while last and self.width(last + ELLIPSIS) > width:
                last = last[:-1]
            lines[max_lines - 1 :] = [last.rstrip() + ELLIPSIS]
        return lines

    def draw(
        self, canvas: ImageDraw.ImageDraw, left: float, top: float, width: float, lines: Sequence[str], ink: tuple[int, int, int]
    ) -> None:
        """Draw lines below each other in a column of `width`, at the side on which each begins to be read."""
        baseline = top + self._main.getmetrics()[0]
        for line in lines:
            x = left + width - self.width(line) if runs_right_to_left(line) else left
            for font, run in self._runs(line):
                canvas.text((x, baseline), run, ink, font, anchor="ls")
                x += font.getlength(run)
            baseline += self.line_height


def belongs_to_the_last(char: str) -> bool:
    """Whether a character is drawn together with the one before it: combining marks and joiners."""
    return char in JOINERS or unicodedata.category(char)[0] == "M"


def has_glyph(font: ImageFont.FreeTypeFont, char: str) -> bool:
    """Whether a font draws something of its own for a character. Spaces, and what belongs to the character before, count as drawn."""
    if char.isspace() or belongs_to_the_last(char):
        return True
    glyph, box = font.getmask(char), font.getmask(UNASSIGNED)
    return glyph.size != box.size or bytes(glyph) != bytes(box)
