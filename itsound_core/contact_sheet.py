"""Many wide pictures on one sheet, each with a caption."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

CELL_WIDTH, CAPTION = 256, 18
COLUMNS = 4
INK = 230
SET_ASIDE = 0.3
"""Brightness of pictures that are out."""


def contact_sheet(
    pictures: Tensor, captions: Sequence[str], kept: Sequence[bool] | None = None, columns: int = COLUMNS, cell_width: int = CELL_WIDTH
) -> Image.Image:
    """Gray sheet of pictures (N, H, W) in 0..1, `columns` a row, each scaled to `cell_width`, captions below; those not kept are dimmed."""
    count, height, width = pictures.shape
    cell_height = max(1, cell_width * height // width)
    columns = min(columns, count)
    sheet = Image.new("L", (columns * cell_width, -(-count // columns) * (cell_height + CAPTION)))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        brightness = 255.0 if kept is None or kept[i] else 255.0 * SET_ASIDE
        pixels = Image.fromarray((brightness * picture.clamp(0, 1)).round().numpy().astype(np.uint8))
        left, top = i % columns * cell_width, i // columns * (cell_height + CAPTION)
        sheet.paste(pixels.resize((cell_width - 2, cell_height), Image.Resampling.BILINEAR), (left, top))
        draw.text((left + 2, top + cell_height + 2), caption, int(INK * brightness / 255), font)
    return sheet
