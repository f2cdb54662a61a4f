"""Pictures for the repository as JPEG files that stay small."""

from __future__ import annotations

import io

from PIL import Image

QUALITIES = range(90, 40, -5)


def jpeg(picture: Image.Image, largest: int) -> bytes:
    """The picture in the best quality that `largest` bytes hold. Raises ValueError where even the worst is larger."""
    for quality in QUALITIES:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= largest:
            return buffer.getvalue()
    raise ValueError(f"a picture of {picture.width} x {picture.height} pixels does not fit into {largest} bytes")
