"""A run: what is still to be made, by whom, and the records of what is done."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from itsound_core.imprint import imprint

from . import records
from .folders import Folders
from .records import MAKING, Record
from .rows import Row
from .samples import Sample
from .worker import Finished, Task

BATCH = 5  # part of what a sample is: rounding differs with the batch
RHO = 0.5

Spread = Callable[[Iterator[Task]], Iterator[list[Finished]]]
Item = TypeVar("Item")


def order(output: Path, rows: Mapping[str, Row], listed: Sequence[Sample]) -> dict[str, Row]:
    """The rows, those that are made of others' pictures last.

    Raises FileNotFoundError for one whose sources are neither among the rows nor saved, before any sample is made.
    """
    there = {(record["row"], record["index"]) for record in records.read(output)}
    for name, row in rows.items():
        left = [sample.index for sample in listed if (name, sample.index) not in there]
        for source in set(row.sources).difference(rows):
            records.require_pictures(output, source, left)
    return dict(sorted(rows.items(), key=lambda item: bool(item[1].sources)))


def run(output: Path, name: str, row: Row, listed: list[Sample], prompts: str, folders: Folders, spread: Spread) -> None:
    """Make what a row lacks of the listed samples, and record each batch as soon as it is done."""
    fixed = {"prompts": prompts, "files": folders.files(row)}
    left = records.remaining(output, name, row, listed, fixed)
    print(f"{name}: {len(listed) - len(left)} of {len(listed)} are there", flush=True)
    tasks = (Task(name, row, batch, made_of_others(output, row, batch)) for batch in batches(left))
    progress = Progress(name, len(left))
    for finished in spread(tasks):
        for one in finished:
            records.save_picture(records.picture_path(output, name, one.record["index"]), one.picture)
        records.append(output, [{**one.record, **fixed} for one in finished])
        progress.done(len(finished))


def judge(output: Path, folders: Folders, spread: Spread) -> None:
    """Examine saved pictures again where that was done by other files; how they were made stays.

    Raises ValueError for samples that were foreseen by other scorers, and FileNotFoundError for a picture that is not there.
    """
    stale: dict[Row, list[Record]] = defaultdict(list)
    for record in records.read(output):
        row = Row.of(record)
        if record["files"] != _examined_by(record, folders.files(row)):
            stale[row].append(record)
    for row, group in stale.items():
        name, files, olds = group[0]["row"], folders.files(row), {record["index"]: record for record in group}
        if row.foresee and any(old["files"].get(scorer) != files[scorer] for old in group for scorer in ("clip", "clap")):
            raise ValueError(f"{output}: {name} was foreseen by other scorers and cannot be scored by these. Run it in another --output.")
        samples = [Sample(**records.record_of_sample(record)) for record in group]
        tasks = (
            Task(name, row, batch, records.load_pictures(output, name, [sample.index for sample in batch])) for batch in batches(samples)
        )
        progress = Progress(f"{name}, again", len(group))
        for finished in spread(tasks):
            for one in finished:
                old = olds[one.record["index"]]
                kept = {key: old[key] for key in ("seconds", "foreseen", "prompts")}
                records.append(output, [{**one.record, **kept, "files": _examined_by(old, files)}])
            progress.done(len(finished))


def _examined_by(record: Record, files: dict[str, str]) -> dict[str, str]:
    """The files of a record whose picture stays and is examined by today's."""
    return {name: record["files"].get(name, digest) if name in MAKING else digest for name, digest in files.items()}


def made_of_others(output: Path, row: Row, batch: Sequence[Sample]) -> np.ndarray | None:
    """The pictures of a row that is made of other rows' saved pictures: those themselves, or the first imprinted on the second."""
    sources = [records.load_pictures(output, source, [sample.index for sample in batch]) for source in row.sources]
    if row.method == "imprint":
        image, spectrogram = map(torch.from_numpy, sources)
        return imprint(image[:, None], spectrogram, RHO).numpy()
    return sources[0] if sources else None


def batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for first in range(0, len(items), BATCH):
        yield items[first : first + BATCH]


class Progress:
    """A line for each batch: how much is done, and how long the rest will take."""

    def __init__(self, name: str, count: int) -> None:
        self.name, self.count, self.so_far, self.began = name, count, 0, time.monotonic()

    def done(self, count: int) -> None:
        self.so_far += count
        each = (time.monotonic() - self.began) / self.so_far
        left = each * (self.count - self.so_far)
        print(f"{self.name}: {self.so_far} of {self.count}, {each:.1f} s a sample, {left / 60:.0f} min left", flush=True)
