"""Many mixed prompts through one server: its memory, open files and threads stay as they are.

COMFYUI_PATH=... python -m tests.sweep.soak [PROMPTS]
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from launch.environment import QuickstartError
from launch.server import Server

from . import prompts

if TYPE_CHECKING:
    from .log import Log


LIMIT = 4 * 3600.0
TITLE = "Soak: mixed prompts through one server"
PROMPTS = 500
EVERY = 25
"""Prompts between two looks."""
LOOKS = 4
"""Of which the one with the least memory counts: what is held is in all of them."""
SETTLED = 50
"""Prompts after which a server has all that it keeps: code, kernels, arenas of its allocator."""
MEGABYTES_A_HUNDRED = 3.0
REFERENCE = ("ksampler", 0, 0)
"""What is run before each look, so that what ComfyUI keeps of the last prompt is always the same."""


@dataclass(frozen=True)
class Look:
    """A server's process after so many prompts, idle."""

    prompts: int
    megabytes: float
    files: int
    threads: int
    objects: dict[str, int] = field(repr=False)
    """The commonest kinds, and how many there are of each."""


@contextmanager
def probed_server() -> Iterator[Server]:
    """A server that tells what it holds."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "custom_nodes").mkdir()
        shutil.copy(Path(__file__).with_name("probe.py"), base / "custom_nodes")
        with Server(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), base, base / "output", options=("--cpu",)) as server:
            yield server


def process_of(server: Server) -> int:
    assert server._process
    return server._process.pid


def drawn(count: int, seed: int) -> Iterator[tuple[str, int, int]]:
    """Names, seeds and sizes of prompts: each kind comes equally often, every ninth is a mistake, and one in six repeats the last."""
    chance, names = random.Random(seed), list(prompts.MAKERS)
    order: list[str] = []
    last = REFERENCE
    for number in range(count):
        order = order or chance.sample(names, len(names))
        if number % 9 == 8:
            yield prompts.REFUSED, number, 0
        elif number % 6 == 5:
            yield last
        else:
            last = order.pop(), number, int(chance.random() < 0.2)
            yield last


def soak(server: Server, count: int, seed: int = 1, on_look: Callable[[Look], None] = lambda _: None) -> tuple[list[Look], list[str]]:
    """What was seen, and what of the prompts did not end as it should."""
    looks, wrong = [], []

    def see(done: int) -> None:
        server.files_of(prompts.MAKERS[REFERENCE[0]](*REFERENCE[1:]))
        server.post("/history", {"clear": True})  # ComfyUI keeps every prompt and its outputs, ten thousand of them
        server.post("/free", {"unload_models": True, "free_memory": True})
        seen = []
        for _ in range(LOOKS):  # it frees its models when it comes to it, on a busy machine after seconds
            time.sleep(1.0)
            seen.append(Look(prompts=done, **server.get("/sweep/held")))
        looks.append(min(seen, key=lambda look: look.megabytes))
        on_look(looks[-1])

    for number, (name, seed_of, size) in enumerate(drawn(count, seed), start=1):
        try:
            server.files_of((prompts.mistake if name == prompts.REFUSED else prompts.MAKERS[name])(seed_of, size))
            if name == prompts.REFUSED:
                wrong.append(f"prompt {number}: a mistake was not refused")
        except QuickstartError as error:
            if name != prompts.REFUSED:
                wrong.append(f"prompt {number}, {name}({seed_of}, {size}): {error}")
        if number % EVERY == 0:
            see(number)
    return looks, wrong


def growth(looks: list[Look]) -> dict[str, float]:
    """Of megabytes in a hundred prompts, the median slope between two looks; of files and threads from first to last, after SETTLED.

    One look with models that were not freed yet would bend a line through the looks (Theil 1950, Sen 1968).
    """
    settled = [one for one in looks if one.prompts >= min(SETTLED, looks[-1].prompts // 2)]
    slope = statistics.median(
        (after.megabytes - before.megabytes) / (after.prompts - before.prompts) for before, after in combinations(settled, 2)
    )
    first, last = settled[0], settled[-1]
    return {"MB a hundred": round(100 * slope, 2), "files": last.files - first.files, "threads": last.threads - first.threads}


def more(looks: list[Look]) -> dict[str, int]:
    """Kinds of objects that there are more of at the end than after SETTLED prompts."""
    first, last = next(one for one in looks if one.prompts >= min(SETTLED, looks[-1].prompts // 2)).objects, looks[-1].objects
    grown = {kind: count - first.get(kind, count) for kind, count in last.items()}
    return {kind: count for kind, count in sorted(grown.items(), key=lambda item: -item[1]) if count > 0}


def faults(looks: list[Look]) -> list[str]:
    grown = growth(looks)
    found = [f"{number:+} {what} left over" for what, number in grown.items() if what != "MB a hundred" and number > 0]
    if grown["MB a hundred"] > MEGABYTES_A_HUNDRED:
        found.append(f"{grown['MB a hundred']} MB more in a hundred prompts, {MEGABYTES_A_HUNDRED} are allowed")
    return found


def tasks(hours: float) -> list[str]:
    """One, of the same name for any hours; more of them are more prompts."""
    return ["prompts"]


def run(task: str, hours: float, log: Log) -> None:
    from .oracle import SILENT, Outcome  # here, because by itself this runs without the sweep

    def told(look: Look) -> None:
        with log.case("looks", look):
            pass

    count = max(PROMPTS, int(PROMPTS * hours / 2))
    with probed_server() as server:
        looks, wrong = soak(server, count, on_look=told)
    first, last = looks[min(1, len(looks) - 1)], looks[-1]
    case = f"{count} prompts; after {first.prompts} {first.megabytes:.0f} MB, at the end {last.megabytes:.0f}: {growth(looks)}"
    for fault in faults(looks) + wrong or [""]:
        with log.case("mixed prompts", case) as outcomes:
            outcomes += [Outcome(SILENT, fault)] if fault else []


@contextmanager
def _printed() -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"{time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    with _printed(), probed_server() as server:
        looks, wrong = soak(server, int((sys.argv[1:] or [PROMPTS])[0]), on_look=lambda one: print(one, flush=True))
        print(growth(looks), faults(looks) + wrong, more(looks), sep="\n")
