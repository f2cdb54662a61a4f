"""Make what README shows: docs/first.webp, first.mp4, gallery.jpg, color.jpg, banner.jpg and icon.png.

    COMFYUI_PATH=... python tools/gallery.py    # samples into output/gallery, then draws
    python tools/gallery.py --draw              # draws from there again

first.mp4 is what the template of one's own photo makes as it ships, with seed 1, as the video of the template that shows all parts;
first.webp is the same, to watch where a page plays no video. The gallery is what the first template makes as it ships, by the template that
shows it inside, on the embedded models, with the first eight pairs of the presets' fixed lists of prompts and the seeds 1, 2, ... in turn:
none is picked. color.jpg is what the template of coloured sounds makes as it ships, seed and all. Banner and icon are made of the
gallery's first two. Some five minutes on two CPU cores.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parent.parent))
from itsound_core.colormap import apply_colormap, renormalize  # noqa: E402
from itsound_core.contact_sheet import contact_sheet  # noqa: E402
from itsound_core.presets import EMBEDDED_AUDIO_PROMPTS, EMBEDDED_IMAGE_PROMPTS, PromptPair  # noqa: E402
from itsound_core.views import VIEWS  # noqa: E402
from launch import workflow  # noqa: E402
from launch.environment import REPO  # noqa: E402
from launch.server import Server  # noqa: E402
from tools.comfyui import temporary_server  # noqa: E402

DOCS = REPO / "docs"
TEMPLATE = REPO / "workflows" / "10 Inside one sample.json"
PHOTO_TEMPLATE, PHOTO_CAPTION = REPO / "workflows" / "02 Your photo that sounds.json", "a photo of a cat"
COLOR_TEMPLATE = REPO / "workflows" / "11 Sound in colour.json"
PAIRS = [PromptPair(*prompts) for prompts in zip(EMBEDDED_IMAGE_PROMPTS, EMBEDDED_AUDIO_PROMPTS, strict=True)][:8]
COLUMNS, CELL_WIDTH = 2, 512
BANNER = (1260, 540)
"""Pixels, 21 to 9."""
ICON = 256
"""Pixels a side. The registry takes up to 400."""
ICON_COLORS = 32
SAMPLES = REPO / "output" / "gallery"
FPS, EVERY, QUALITY = 25, 2, 60
"""The video's frames a second, every how many of them the moving picture shows, and the quality of its WebP."""


def photo(server: Server) -> Path:
    """The video of what the template of one's own photo makes with seed 1: trimmed, in the colours and with the line of TEMPLATE."""
    object_info = server.get("/object_info")
    prompt, inside = (workflow.to_prompt(workflow.load(path), object_info) for path in (PHOTO_TEMPLATE, TEMPLATE))
    shutil.copytree(REPO / "workflows" / "inputs", server.base / "input", dirs_exist_ok=True)
    workflow.node_of(prompt, "MultimodalKSampler")["seed"] = 1
    heard = {"image_prompt": PHOTO_CAPTION, "audio_prompt": EMBEDDED_AUDIO_PROMPTS[0]}
    decoded, played = ([workflow.id_of(prompt, class_type), 0] for class_type in ("VAEDecode", "SpectrogramToAudio"))
    links = {
        "TrimCanvas": {"spectrogram": decoded, "audio": played},
        "RenormalizeSpectrogram": {"spectrogram": ["TrimCanvas", 0]},
        "PlayheadVideo": {"image": ["RenormalizeSpectrogram", 0], "audio": ["TrimCanvas", 1], **heard},
        "SaveVideo": {"video": ["PlayheadVideo", 0]},
    }
    prompt = {node_id: node for node_id, node in prompt.items() if not object_info[node["class_type"]]["output_node"]}
    for class_type, inputs in links.items():
        prompt[class_type] = {"class_type": class_type, "inputs": {**workflow.node_of(inside, class_type), **inputs}}
    (video,) = server.files_of(prompt)
    return video


def sample(server: Server, pair: PromptPair, seed: int) -> list[Path]:
    """The gray picture that TEMPLATE makes of a pair; only what leads to it is run."""
    prompt = workflow.to_prompt(workflow.load(TEMPLATE), server.get("/object_info"))
    workflow.node_of(prompt, "MultimodalKSampler")["seed"] = seed
    captions = workflow.node_of(prompt, "PlayheadVideo")
    for name, text in zip(("image_prompt", "audio_prompt"), pair, strict=True):
        workflow.set_value(prompt, captions, name, text)
    return picture_of(server, prompt, "VAEDecode", f"seed-{seed}")


def painted(server: Server) -> list[Path]:
    """The coloured picture that COLOR_TEMPLATE makes as it ships."""
    prompt = workflow.to_prompt(workflow.load(COLOR_TEMPLATE), server.get("/object_info"))
    return picture_of(server, prompt, "FactorizedColorize", "color")


def picture_of(server: Server, prompt: workflow.Prompt, class_type: str, name: str) -> list[Path]:
    """What the one node of that class gives, saved; nothing else is saved or shown."""
    object_info = server.get("/object_info")
    shown = [workflow.id_of(prompt, class_type), 0]
    prompt = {node_id: node for node_id, node in prompt.items() if not object_info[node["class_type"]]["output_node"]}
    prompt["saved"] = {"class_type": "SaveImage", "inputs": {"images": shown, "filename_prefix": name}}
    return server.files_of(prompt)


def moving(video: Path) -> list[Image.Image]:
    """The frames of a video that its moving picture shows."""
    with av.open(video) as file:
        return [frame.to_image() for frame in file.decode(video=0)][::EVERY]


def gray(path: Path) -> Tensor:
    """A saved picture, (256, 1024) in 0..1."""
    return torch.from_numpy(np.asarray(Image.open(path), dtype=np.float32) / 255).mean(-1)


def colored(picture: Tensor, colormap: str) -> Image.Image:
    """A gray picture (H, W) as Renormalize Spectrogram shows it."""
    pixels = apply_colormap(renormalize(picture[None]), colormap)[0]
    return Image.fromarray((pixels * 255).round().byte().numpy())


def banner(first: Tensor, second: Tensor) -> Image.Image:
    """Two pictures one above the other, each in colours of its own, with the pack's name between them."""
    picture = Image.new("RGB", BANNER)
    half = (BANNER[0], BANNER[1] // 2)
    for top, canvas, colormap in ((0, first, "magma"), (half[1], second, "viridis")):
        strip = colored(canvas, colormap).resize((half[0], half[0] * canvas.shape[0] // canvas.shape[1]), Image.Resampling.LANCZOS)
        above = (strip.height - half[1]) // 2
        picture.paste(strip.crop((0, above, half[0], above + half[1])), (0, top))
    draw = ImageDraw.Draw(picture)
    middle = (BANNER[0] // 2, half[1])
    draw.text(middle, "Images that Sound", "white", ImageFont.load_default(84), anchor="mm", stroke_width=4, stroke_fill="black")
    return picture


def icon(picture: Tensor) -> Image.Image:
    """A picture as a square of two rows, in few enough colours for a small file."""
    square = VIEWS["two-row square"].inverse_view(picture)
    return colored(square, "magma").resize((ICON, ICON), Image.Resampling.LANCZOS).quantize(ICON_COLORS)


def main() -> None:
    if sys.argv[1:] != ["--draw"]:
        SAMPLES.mkdir(parents=True, exist_ok=True)
        with temporary_server() as server:
            shutil.copy(photo(server), SAMPLES / "photo.mp4")
            (color,) = painted(server)
            shutil.copy(color, SAMPLES / "color.png")
            for seed, pair in enumerate(PAIRS, start=1):
                for path in sample(server, pair, seed):
                    shutil.copy(path, SAMPLES / f"{seed}{path.suffix}")
    shutil.copy(SAMPLES / "photo.mp4", DOCS / "first.mp4")
    first, *frames = moving(DOCS / "first.mp4")
    first.save(DOCS / "first.webp", save_all=True, append_images=frames, duration=EVERY * 1000 // FPS, loop=0, quality=QUALITY, method=6)
    Image.open(SAMPLES / "color.png").convert("RGB").save(DOCS / "color.jpg", quality=85, optimize=True)
    pictures = [gray(SAMPLES / f"{seed}.png") for seed in range(1, len(PAIRS) + 1)]
    captions = [f'"{pair.image}" / "{pair.audio}", seed {seed}' for seed, pair in enumerate(PAIRS, start=1)]
    contact_sheet(torch.stack(pictures), captions, columns=COLUMNS, cell_width=CELL_WIDTH).save(DOCS / "gallery.jpg", quality=80)
    banner(*pictures[:2]).save(DOCS / "banner.jpg", quality=75, optimize=True)
    icon(pictures[0]).save(DOCS / "icon.png", optimize=True)


if __name__ == "__main__":
    main()
