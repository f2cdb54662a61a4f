"""Draw workflows/<template>.jpg, by which ComfyUI's list of templates shows them: what each template makes as it ships.

    COMFYUI_PATH=... python tools/thumbnails.py                    # those that the embedded models can run
    COMFYUI_PATH=... python tools/thumbnails.py "01 Picture that sounds" ...    # these

A thumbnail shows the start of every picture that the template saves, one below the other, and below a single one the middle of its
playhead video's first ten seconds or, without a video, the same in colours (a coloured one in the gray that is its sound).
A minute or two a template on two CPU cores.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import av
import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageOps

sys.path.append(str(Path(__file__).resolve().parent.parent))
from launch import workflow  # noqa: E402
from launch.environment import REPO  # noqa: E402
from tools.comfyui import temporary_server  # noqa: E402
from tools.jpeg import jpeg  # noqa: E402

TEMPLATES = REPO / "workflows"
SHOWN_AS = {
    "23 Colour by DeepFloyd IF": "11 Sound in colour",
    "26 SDS with DeepFloyd IF": "25 Score distillation",
    "28 SD15 and Riffusion": "14 Square spectrogram",
}
"""Templates on DeepFloyd IF and Riffusion, which could not be run here, have the thumbnail of what the embedded models
make, and their notes say so."""
PUBLISHED = {"21 SD15 and Auffusion", "22 Few steps with LCM", *SHOWN_AS}
"""Templates whose models have to be fetched."""
SIZE = (640, 400)
LARGEST = 40_000
"""Bytes of a thumbnail."""
AT = 5.12
"""Seconds into a video at which its line stands within the part of the picture that is shown."""


def frame(path: Path) -> Image.Image:
    """A video's frame at AT, or its last."""
    with av.open(path) as video:
        shown = None
        for shown in video.decode(video=0):
            if shown.time is not None and shown.time >= AT:
                break
        assert shown is not None
        return shown.to_image()


def recoloured(picture: Image.Image) -> Image.Image:
    """A gray picture stretched and in matplotlib's inferno, a coloured one in its channel mean."""
    pixels = np.asarray(picture.convert("RGB"), float)
    gray = pixels.mean(-1)
    if np.ptp(pixels, axis=-1).mean() > 1:
        return Image.fromarray(gray.astype(np.uint8))
    return Image.fromarray(colormaps["inferno"]((gray - gray.min()) / max(np.ptp(gray), 1.0), bytes=True)[..., :3])


def rows(pictures: list[Image.Image], videos: list[Path]) -> list[Image.Image]:
    """What a thumbnail shows of a template's pictures and videos, from top to bottom."""
    square = any(picture.width <= picture.height for picture in pictures)  # which fills the thumbnail by itself
    if len(pictures) > 1 or square:
        return pictures
    return [*pictures, *(map(frame, videos) if videos else map(recoloured, pictures))]


def stacked(pictures: list[Image.Image]) -> Image.Image:
    """The left of each picture in a row of its own, as much as fills it."""
    thumbnail, (width, height) = Image.new("RGB", SIZE), SIZE
    for i, picture in enumerate(pictures):
        top, bottom = (height * j // len(pictures) for j in (i, i + 1))
        columns = min(picture.width, picture.height * width // (bottom - top))
        left = picture.convert("RGB").crop((0, 0, columns, picture.height))
        part = ImageOps.contain(left, (width, bottom - top), Image.Resampling.LANCZOS)
        thumbnail.paste(part, ((width - part.width) // 2, top))
    return thumbnail


def main() -> None:
    names = sys.argv[1:] or sorted({path.stem for path in TEMPLATES.glob("*.json")} - PUBLISHED)
    with temporary_server() as server:
        object_info = server.get("/object_info")
        for name in names:
            files = server.files_of(workflow.to_prompt(workflow.load(TEMPLATES / f"{name}.json"), object_info))
            pictures = [Image.open(path) for path in files if path.suffix == ".png"]
            videos = [path for path in files if path.suffix == ".mp4"]
            (TEMPLATES / f"{name}.jpg").write_bytes(jpeg(stacked(rows(pictures, videos)), LARGEST))
            print(name, flush=True)
    for name, embedded in SHOWN_AS.items():
        shutil.copyfile(TEMPLATES / f"{embedded}.jpg", TEMPLATES / f"{name}.jpg")


if __name__ == "__main__":
    main()
