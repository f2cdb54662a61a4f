"""What the embedded colour model makes of pictures that sound: how strong its colours are, and whether they are the prompt's.

    python -m lab.train.evaluate_color lab/results/embedded --row joint --count 56 --data data

Needs the records and pictures that `python -m lab.evaluate run` wrote, and data/color/ that `colors.py` wrote. Each picture is reduced to
the model's 64 x 256 and coloured twice from the same noise: with the prompt that it was made with, and with that of another class.

What is measured: the chroma (length of the colour part, in 0..1) where the gray is above INK, and where it is below BLACK and there should
be none; and the cosine between the picture's mean colour and the mean colour of the prompt's class in the training data. Its control is the
cosine of the picture of the other prompt with the same colour.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from PIL import Image
from torch import Tensor

from itsound_core import embedded
from itsound_core.colorize import split_gray

from ..evaluate.models import Side
from ..evaluate.records import Record, picture_path, read
from ..intervals import mean
from .colors import reduced
from .train_color import FOLDER, INK, class_colors, colorize, mean_color

BLACK = 0.05
APART = 7  # the other prompt is that of the sample so many further on in the list


def measured(picture: Tensor, color: Tensor) -> tuple[float, float, float]:
    """Of a coloured picture (1, 3, H, W) in 0..1: chroma on ink, chroma on black, cosine of its mean colour with `color` (3,).

    Not a number where no pixel is ink, or black.
    """
    gray, parts = split_gray(picture)
    chroma, ink, black = parts.norm(dim=1, keepdim=True), gray > INK, gray < BLACK
    cosine = torch.cosine_similarity(mean_color(picture, ink), color[None])
    return float(chroma[ink].mean()), float(chroma[black].mean()), float(cosine)


def other(records: list[Record], index: int) -> Record:
    """The first record from APART further on, round the list, that shows something else. Raises ValueError where none does."""
    turned = (records[(index + APART + step) % len(records)] for step in range(len(records)))
    found = next((record for record in turned if record["image_class"] != records[index]["image_class"]), None)
    if found is None:
        raise ValueError("all the pictures are of one class, so that there is no other prompt to colour them by: raise --count")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what `python -m lab.evaluate run` wrote")
    parser.add_argument("--row", default="joint")
    parser.add_argument("--count", type=int, default=56)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--sheet", type=Path, help="also write the first eight pictures: gray, coloured, coloured by the other prompt")
    args = parser.parse_args()
    torch.set_num_threads(1)

    records = [record for record in read(args.folder) if record["row"] == args.row][: args.count]
    if not records:
        parser.error(f"{args.folder} has no record of the row {args.row}")
    colors = class_colors(args.data)
    unet = UNet2DConditionModel.from_pretrained(FOLDER, subfolder="unet", torch_dtype=torch.float32, low_cpu_mem_usage=False).eval()
    side = Side.load(embedded.IMAGE_FOLDER)
    own, control, shown = [], [], []
    for index, record in enumerate(records):
        pixels = np.asarray(Image.open(picture_path(args.folder, args.row, record["index"])), np.float32) / 255
        gray = torch.from_numpy(reduced(pixels))[None, None]
        texts = side.embed([record["image_prompt"], other(records, index)["image_prompt"], ""])
        pictures = [
            colorize(unet, gray, text[None], texts[2:], args.guidance, seed=record["index"], steps=args.steps) for text in texts[:2]
        ]
        for picture, found in zip(pictures, (own, control), strict=True):
            found.append(measured(picture, colors[record["image_class"]]))
        shown.append(torch.cat([gray.expand(-1, 3, -1, -1), *pictures], dim=3)[0])
    print(f"{args.row}: {len(records)} pictures, guidance {args.guidance:g}; means with 95 % intervals, x 100")
    for name, found in (("its own prompt", own), ("another prompt", control)):
        columns = [[100 * value for value in column if value == value] for column in zip(*found, strict=True)]
        labels = ("chroma on ink", "on black", "cosine with the class's colour")
        print(f"{name}: " + "; ".join(f"{label} {mean(column) if column else '-'}" for label, column in zip(labels, columns, strict=True)))
    paired = [100 * (right[2] - wrong[2]) for right, wrong in zip(own, control, strict=True)]
    print(f"cosine, own less another: {mean(paired)}")
    if args.sheet:
        rows = torch.cat(shown[:8], dim=1).permute(1, 2, 0).mul(255).round().byte()
        Image.fromarray(rows.numpy()).save(args.sheet)


if __name__ == "__main__":
    main()
