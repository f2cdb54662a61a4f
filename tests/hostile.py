"""Texts, names and files of somebody who means harm, as a downloaded workflow may bring them.

Run as code, each text sets `window.ran` or makes a file.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import soundfile

MARKUP = {
    "image": "<img src=x onerror=\"window.ran='image'\">",
    "script": "</script><script>window.ran='script'</script>",
    "textarea": "</textarea></title></style><svg onload=\"window.ran='svg'\">",
    "attribute": "\" autofocus onfocus=\"window.ran='attribute'\" x='",
    "link": "[castle](javascript:window.ran='link') <a href=\"javascript:window.ran='a'\">castle</a>",
    "frame": "<iframe srcdoc=\"<script>parent.ran='frame'</script>\"></iframe>",
    "template": "{{constructor.constructor('window.ran=1')()}} ${window.ran=1} {{script}} {{clips}}",
    "style": "<style>@import 'http://192.0.2.1/style';</style><link rel=stylesheet href=http://192.0.2.1/link>",
    "json": '"}]; window.ran="json"; //\u2028window.ran="line"',
}
"""What a browser must show as text."""
FILTERS = {
    "drawtext": "':text='x',drawtext=textfile=/etc/passwd:fontsize=40,%{pict_type}",
    "subtitles": "{\\an8\\fs200\\p1}m 0 0 l 9 9{\\p0}\\N{\\r}",
    "metadata": ";FFMETADATA1\ntitle=x\n[CHAPTER]\nSTART=0",
    "printf": "%s%n%p %(prompt)s {0.__class__} {prompt}",
    "shell": "$(touch harm) `touch harm`; touch harm | tee harm",
}
"""What a video's captions and metadata must hold as text."""
SHAPES = {
    "long": "castle " * 20_000,
    "long word": "a" * 200_000,
    "bidi": "castle \u202egnp.elgnis\u202c \u2066\u2067a\u2069 \u200f\u061c\u05d0 abc",
    "control": "a\0b\x1b[31mred\x07\x08\r\n\x7f\x9b2J",
    "marks": "a" + "\u0301" * 5_000 + "\u200d" * 5_000,
    "many": "".join(map(chr, range(0x4E00, 0x4E00 + 5_000))),
    "surrogates": "half \ud83d and \udc00",
    "unseen": "\u200b\u200b\ufeff\u3164\U000e0041",
}
TEXTS = MARKUP | FILTERS | SHAPES
NAMES = {
    "above": "../evil",
    "far above": "../" * 30 + "tmp/evil",
    "inside": "a/../../evil",
    "root": "/evil",
    "backslash": "..\\..\\evil",
    "drive": "C:\\evil",
    "share": "\\\\server\\share\\evil",
    "NUL": "a\0/../../evil",
    "home": "~/evil",
    "address": "file:///etc/passwd",
    "key": "diffusers/../../evil",
    "key's root": "vocoders//etc/passwd",
    "variable": "%HOME%/../../evil",
    "escape": "..%2f..%2fevil",
}
"""Names of files and folders that lead elsewhere, on some system."""


def write_huge_picture(path: Path) -> None:
    """A gray PNG of 50000 x 50000 pixels, 2.5 GB, in some kilobytes; all but the first rows are missing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header, rows = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0), zlib.compress(bytes(50_001 * 20), 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def write_lying_sound(path: Path) -> None:
    """A FLAC or WAV of a tenth of a second, at 16 kHz, whose header says 2^36 - 1 samples, or 4 GB."""
    soundfile.write(path, np.full(1600, 0.1), 16000)
    data = bytearray(path.read_bytes())
    if path.suffix == ".flac":
        data[21] |= 0x0F
        data[22:26] = b"\xff" * 4
    else:
        data[4:8] = data[40:44] = b"\xff\xff\xff\xfe"
    path.write_bytes(data)
