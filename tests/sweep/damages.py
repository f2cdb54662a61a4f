"""Ways to damage a file of a model, and which of them it may survive."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

PICKLES = (".pt", ".bin", ".ckpt")
WEIGHTS = (".safetensors", *PICKLES)
HEADER = 8
ABSURD = (None, [], {}, "text", -1, 0, 10**9, math.nan, True)
"""What each key of a config is set to."""
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 134\n"
MUCH = 2**28
"""Numbers that one number of a file can stand for: a gigabyte in float32."""
PACKED = 2**26
"""Bytes of zeros that are packed."""
ANYTHING, MISSING = ("*",), ("is missing",)
HARMLESS: dict[str, tuple[str, ...]] = {
    "*/model_index.json": ANYTHING,  # a folder is known by it; nothing is read of it
    "*_scorer/README.md": ANYTHING,
    "*_scorer/words.json": ANYTHING,  # for people: what the embedded scorer knows
    "*/tokenizer_config.json": MISSING,  # what it says is what is meant without it, in CLIP and CLAP
    "*/special_tokens_map.json": MISSING,
    "sds-pt/*.pt": MISSING,  # a run without its checkpoint begins anew
}
"""Layouts' files and the damages that a model survives rightly, though its file is no file of its kind any more."""


class Damage(NamedTuple):
    name: str
    do: Callable[[], Any]
    fatal: bool
    """Whether what is left can never be valid."""


class Payload:
    """Unpickled freely it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (str(self.path), "w")


def must_be_refused(file: str, damage: Damage) -> bool:
    """Whether that damage of a file, LAYOUT/its path, leaves no model; see HARMLESS."""
    harmless = any(fnmatch(damage.name, name) for pattern, names in HARMLESS.items() if fnmatch(file, pattern) for name in names)
    return damage.fatal and not harmless


def damages(file: Path, harm: Path, others: Sequence[Path] = (), every: int = 1) -> Iterator[Damage]:
    """Ways to damage a file that is whole.

    harm: the file that a pickle's code would write. others: files that may stand in its place. every: each key of a config is set to one
    in so many of the absurd values, another one for the next key.
    """
    whole = file.read_bytes()
    for other in others:
        if other.suffix == file.suffix and (content := other.read_bytes()) != whole:
            yield Damage(f"is {other.parent.name}/{other.name}", partial(file.write_bytes, content), False)
    for share in (0.0, 0.3, 0.999):  # text can do without its last character
        cut = partial(os.truncate, file, int(len(whole) * share))
        yield Damage(f"cut to {share:.1%}", cut, share < 0.5 or file.suffix in WEIGHTS)
    contents = {
        "a web page": b"<!doctype html><title>404</title>",
        "an LFS pointer": LFS,
        "zeros": bytes(len(whole[:4096])),
        "a pickle": pickle.dumps(Payload(harm), protocol=2),
    }
    yield from (Damage(f"is {name}", partial(file.write_bytes, content), True) for name, content in contents.items())
    yield Damage("is missing", file.unlink, True)
    if file.suffix == ".json":
        yield from _of_json(file, whole, every)
    elif file.suffix == ".safetensors":
        yield from _of_safetensors(file, whole)
    elif file.suffix in PICKLES:
        yield from _of_pickles(file, harm)


def _of_json(file: Path, whole: bytes, every: int) -> Iterator[Damage]:
    yield from (Damage(f"is {text}", partial(file.write_text, text), False) for text in ("[]", "null", "3", '"text"', "{}"))
    yield Damage("is brackets without an end", partial(file.write_text, "[" * 100_000), True)
    try:
        keys = json.loads(whole)
    except ValueError:
        return
    for number, key in enumerate(list(keys)[:40] if isinstance(keys, dict) else ()):
        for value in ABSURD[number % every :: every]:
            yield Damage(f"{key} is {value!r}", partial(file.write_text, json.dumps({**keys, key: value})), False)


def _of_safetensors(file: Path, whole: bytes) -> Iterator[Damage]:
    yield Damage("a header longer than the file", partial(file.write_bytes, (2**62).to_bytes(HEADER, "little") + whole[HEADER:]), True)
    length = int.from_bytes(whole[:HEADER], "little")
    header = json.loads(whole[HEADER : HEADER + length])
    name = next(key for key in header if key != "__metadata__")
    lies: dict[str, Mapping[str, Any]] = {
        "a shape of 2^40": {"shape": [2**40]},
        "a negative shape": {"shape": [-1]},
        "offsets beyond the file": {"data_offsets": [0, 2**50]},
        "offsets backwards": {"data_offsets": [8, 0]},
        "a type that does not exist": {"dtype": "F13"},
        "no shape": {"shape": None},
    }
    for lie, change in lies.items():
        text = json.dumps(header | {name: header[name] | change}).encode()
        yield Damage(lie, partial(file.write_bytes, len(text).to_bytes(HEADER, "little") + text + whole[HEADER + length :]), True)


def _of_pickles(file: Path, harm: Path) -> Iterator[Damage]:
    """What is whole but for one thing: code, in both of torch's formats; one number for many; packed zeros; and what holds no weights."""
    whole = torch.load(file, weights_only=True)
    for name, new in (("brings code", True), ("brings code, in torch's old format", False)):
        brings = partial(torch.save, {**whole, "more": Payload(harm)}, file, _use_new_zipfile_serialization=new)
        yield Damage(name, brings, True)
    yield Damage(f"one number stands for {MUCH}", partial(torch.save, _swollen(whole), file), True)
    yield Damage("is packed", partial(_pack, file), True)
    yield from (Damage(f"holds {content}", partial(torch.save, content, file), True) for content in ([], {}, 3))


def _swollen(content: Any) -> Any:
    """With its first weight of the shape (MUCH,), in the file one number; None where there is no weight."""
    if isinstance(content, torch.Tensor):
        return torch.ones(1, dtype=torch.float16).expand(MUCH)
    for key, value in content.items() if isinstance(content, dict) else ():
        if (swollen := _swollen(value)) is not None:
            return {**content, key: swollen}
    return None


def _pack(file: Path) -> None:
    plain = io.BytesIO(file.read_bytes())
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
        target.writestr(f"{source.namelist()[0].partition('/')[0]}/data/packed", bytes(PACKED))
