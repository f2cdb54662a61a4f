"""Make the pictures by which the pack introduces itself: docs/gallery.jpg, docs/banner.jpg and docs/icon.png.

    COMFYUI_PATH=... python tools/gallery.py

The gallery is the first template as it ships, on the embedded models, with the first eight pairs of the presets' fixed lists of prompts and
the seeds 1, 2, ... in turn: none is picked. Banner and icon are made of its first two. Some five minutes on two CPU cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from itsound_core.colormap import apply_colormap, renormalize  # noqa: E402
from itsound_core.contact_sheet import contact_sheet  # noqa: E402
from itsound_core.presets import EMBEDDED_AUDIO_PROMPTS, EMBEDDED_IMAGE_PROMPTS, PromptPair  # noqa: E402
from tools.comfyui import temporary_server  # noqa: E402
from tools.quickstart import workflow  # noqa: E402
from tools.quickstart.environment import REPO  # noqa: E402
from tools.quickstart.server import Server  # noqa: E402

DOCS = REPO / "docs"
TEMPLATE = REPO / "workflows" / "images_that_sound_embedded.json"
PAIRS = [PromptPair(*prompts) for prompts in zip(EMBEDDED_IMAGE_PROMPTS, EMBEDDED_AUDIO_PROMPTS, strict=True)][:8]
COLUMNS, CELL_WIDTH = 2, 512
BANNER = (1260, 540)
"""Pixels, 21 to 9."""
ICON = 256
"""Pixels a side: a square of a canvas as high as it is. The registry takes up to 400."""
ICON_COLORS = 64


def sample(server: Server, pair: PromptPair, seed: int) -> Tensor:
    """The gray picture (256, 1024) in 0..1 that the template makes of a pair; only what leads to the picture is run."""
    object_info = server.get("/object_info")
    prompt = workflow.to_prompt(workflow.load(TEMPLATE), object_info)
    workflow.node_of(prompt, "MultimodalKSampler")["seed"] = seed
    captions = workflow.node_of(prompt, "PlayheadVideo")
    for name, text in zip(("image_prompt", "audio_prompt"), pair, strict=True):
        workflow.set_value(prompt, captions, name, text)
    (decoded,) = (node_id for node_id, node in prompt.items() if node["class_type"] == "VAEDecode")
    prompt = {node_id: node for node_id, node in prompt.items() if not object_info[node["class_type"]]["output_node"]}
    prompt["saved"] = {"class_type": "SaveImage", "inputs": {"images": [decoded, 0], "filename_prefix": f"seed-{seed}"}}
    for _ in server.run(prompt):
        pass
    pixels = np.asarray(Image.open(server.output / f"seed-{seed}_00001_.png"), dtype=np.float32) / 255
    return torch.from_numpy(pixels).mean(-1)


def colored(picture: Tensor, colormap: str) -> Image.Image:
    """A gray picture (H, W) as Renormalize Spectrogram shows it."""
    pixels = apply_colormap(renormalize(picture[None]), colormap)[0]
    return Image.fromarray((pixels * 255).round().byte().numpy())


def banner(first: Tensor, second: Tensor) -> Image.Image:
    """Two pictures one above the other, each in colours of its own, with the pack's name between them."""
    picture = Image.new("RGB", BANNER)
    half = (BANNER[0], BANNER[1] // 2)
    for top, (gray, colormap) in zip((0, half[1]), ((first, "fire"), (second, "ice")), strict=True):
        strip = colored(gray, colormap).resize((half[0], half[0] * gray.shape[0] // gray.shape[1]), Image.Resampling.LANCZOS)
        above = (strip.height - half[1]) // 2
        picture.paste(strip.crop((0, above, half[0], above + half[1])), (0, top))
    draw = ImageDraw.Draw(picture)
    middle = (BANNER[0] // 2, half[1])
    draw.text(middle, "Images that Sound", "white", ImageFont.load_default(84), anchor="mm", stroke_width=4, stroke_fill="black")
    return picture


def icon(picture: Tensor) -> Image.Image:
    """The middle of a picture, in few enough colours for a small file."""
    left = (picture.shape[1] - ICON) // 2
    return colored(picture[:, left : left + ICON], "fire").quantize(ICON_COLORS)


def main() -> None:
    with temporary_server() as server:
        pictures = [sample(server, pair, seed) for seed, pair in enumerate(PAIRS, start=1)]
    captions = [f'"{pair.image}" / "{pair.audio}", seed {seed}' for seed, pair in enumerate(PAIRS, start=1)]
    contact_sheet(torch.stack(pictures), captions, columns=COLUMNS, cell_width=CELL_WIDTH).save(DOCS / "gallery.jpg", quality=80)
    banner(*pictures[:2]).save(DOCS / "banner.jpg", quality=80)
    icon(pictures[0]).save(DOCS / "icon.png", optimize=True)


if __name__ == "__main__":
    main()
