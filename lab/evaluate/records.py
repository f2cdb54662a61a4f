"""Records of samples: one JSON line each in <folder>/records.jsonl, its picture beside it in <folder>/<row>/.

A later line on the same sample of the same row takes the place of an earlier one. What a run has finished may be packed
(`gzip -9n records.jsonl`): records.jsonl.gz is read first, and lines that are added stand in a new records.jsonl.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image

from .rows import Row
from .samples import Sample

Record = dict[str, Any]
FILE = "records.jsonl"
MAKING = ("image", "audio", "vae")
"""Files that a picture depends on; the others are asked about a picture that is there."""


def append(folder: Path, records: Iterable[Record]) -> None:
    """Add lines, one writer at a time. What a killed writer left half-written is removed first."""
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    with FileLock(folder / f"{FILE}.lock"), (folder / FILE).open("a+b") as file:
        file.seek(0)
        whole = file.read()
        rest = whole[whole.rfind(b"\n") + 1 :]
        if rest and _parsed(rest) is None:
            file.truncate(len(whole) - len(rest))
        file.write(b"\n" + lines if rest and _parsed(rest) is not None else lines)


def read(folder: Path) -> list[Record]:
    """The records of a folder, the last of each sample and row, in the order of their samples; [] where there are none.

    A half-written last line is left out. Raises ValueError naming any other line that is no record.
    """
    found: dict[tuple[str, int], Record] = {}
    for path, unpacked in ((folder / f"{FILE}.gz", gzip.decompress), (folder / FILE, bytes)):
        lines = unpacked(path.read_bytes()).split(b"\n") if path.exists() else []
        for number, line in enumerate(lines, start=1):
            record = _parsed(line)
            if record is not None:
                found[record["row"], record["index"]] = record
            elif line and number < len(lines):
                raise ValueError(f"{path}, line {number} is not a record: {line[:60]!r}. Delete the line; its sample will be made again.")
    return sorted(found.values(), key=lambda record: record["index"])


def gather(folders: Sequence[Path], mixed: bool = False, by_settings: bool = False) -> list[Record]:
    """The records of runs as one, in the order of their samples; a sample that several runs made counts once, the first folder's.

    Raises FileNotFoundError for a folder without records. Raises ValueError where records were made or examined by different files, and
    where those of one row have different settings or samples, except `by_settings`, where rows are told apart by these; `mixed` allows all.
    """
    kept: dict[tuple, Record] = {}
    for folder in folders:
        records = read(folder)
        if not records:
            raise FileNotFoundError(f"{folder} has no records: `python -m lab.evaluate run` writes them.")
        for record in records:
            key = (record["row"], record["index"], Row.of(record) if by_settings or mixed else None)
            first = kept.setdefault(key, record)
            if not mixed:
                _refuse(folder, record["row"], differences(first, record))
    found = sorted(kept.values(), key=lambda record: record["index"])
    if not mixed:
        for name, values in of_one_kind(found, by_settings).items():
            if len(values) > 1:
                raise ValueError(f"records of different {name} ({', '.join(sorted(values))}) make no table. Choose folders, or --mixed.")
    return found


def of_one_kind(records: list[Record], by_settings: bool) -> dict[str, set[str]]:
    """What should have one value in all records, and the values it has."""
    values: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for name, digest in record["files"].items():
            values[f"files ({name})"].add(digest)
        values["prompts"].add(record["prompts"])
        if not by_settings:
            values[f"settings of the row {record['row']}"].add(str(Row.of(record).settings()))
    return values


def differences(there: Record, here: Record) -> dict[str, tuple[Any, Any]]:
    """In what two records of one sample and row were not made alike, as (there, here)."""
    rows = asdict(Row.of(there)), asdict(Row.of(here))
    pairs = {key: (rows[0][key], rows[1][key]) for key in rows[0]}
    pairs |= {key: (there[key], here[key]) for key in ("prompts", *Sample.__dataclass_fields__)}
    pairs |= {f"files ({name})": (there["files"].get(name), here["files"].get(name)) for name in MAKING}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def remaining(folder: Path, name: str, row: Row, listed: list[Sample], fixed: Record) -> list[Sample]:
    """The samples of a row that have no record in the folder. fixed: "prompts" and "files" of the records to come.

    Raises ValueError if the folder holds the row with other settings, other prompts, or examined by other files.
    """
    samples = {sample.index: sample for sample in listed}
    for record in read(folder):
        if record["row"] != name:
            continue
        sample = samples.pop(record["index"], None)
        here = {**row.settings(), **(asdict(sample) if sample else record_of_sample(record)), **fixed}
        _refuse(folder, name, differences(record, here))
        if record["files"] != fixed["files"]:
            raise ValueError(
                f"{folder} holds the row {name} examined by other files (there, here): {record['files']}, {fixed['files']}. "
                "`python -m lab.evaluate judge` examines what is there again; or give another --output."
            )
    return list(samples.values())


def record_of_sample(record: Record) -> Record:
    return {key: record[key] for key in Sample.__dataclass_fields__}


def _refuse(folder: Path, name: str, different: dict[str, tuple[Any, Any]]) -> None:
    if different:
        raise ValueError(f"{folder} holds the row {name} with other settings (there, here): {different}. Give another --output.")


def _parsed(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and {"row", "index", "files"} <= record.keys() else None


def picture_path(folder: Path, row: str, index: int) -> Path:
    return folder / row / f"{index:04d}.png"


def save_picture(path: Path, levels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).save(path)


def require_pictures(folder: Path, row: str, indices: Iterable[int]) -> list[Path]:
    """Paths of a row's saved pictures. Raises FileNotFoundError naming the first that is not there."""
    paths = [picture_path(folder, row, index) for index in indices]
    missing = next((path for path in paths if not path.exists()), None)
    if missing:
        raise FileNotFoundError(f"{missing} is not there: run the row {row} first, with the same --output.")
    return paths


def load_pictures(folder: Path, row: str, indices: Iterable[int]) -> np.ndarray:
    """(B, 256, 1024) float32 in 0..1. Raises FileNotFoundError naming the first that is not there."""
    paths = require_pictures(folder, row, indices)
    return np.stack([np.asarray(Image.open(path)) for path in paths]).astype(np.float32) / 255
