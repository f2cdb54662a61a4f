"""Contact sheets of rows: the pictures in the order of their seeds, none picked, with what judges and scorers say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from itsound_core.contact_sheet import contact_sheet

from . import records
from .records import Record
from .tables import grouped

QUALITY = 80


def write(folders: Sequence[Path], count: int, mixed: bool, output: Path) -> None:
    """<output>/<row>.jpg of the first `count` samples of each row of the folders."""
    home = {(record["row"], record["index"]): folder for folder in reversed(folders) for record in records.read(folder)}
    output.mkdir(parents=True, exist_ok=True)
    for name, group in grouped(records.gather(folders, mixed), lambda record: record["row"]).items():
        pictures = [records.load_pictures(home[name, record["index"]], name, [record["index"]])[0] for record in group[:count]]
        sheet = contact_sheet(torch.stack([torch.from_numpy(picture) for picture in pictures]), [caption(r) for r in group[:count]])
        sheet.save(output / f"{name}.jpg", quality=QUALITY)
        print(output / f"{name}.jpg")


def caption(record: Record) -> str:
    """What was asked for, and marks for a picture and a sound that were recognised; the scores where there is no class."""
    if record["picture"] is None:
        return f"{record['index']}: {record['clip']:.0f} / {record['clap']:.0f}"
    sides = (("image_class", "picture"), ("audio_class", "sound"))
    return " / ".join(f"{record[label]} {'+' if record[question]['right'] else '-'}" for label, question in sides)
