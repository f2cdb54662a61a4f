"""Cancels at random moments of every node that works for long: they stop soon, and what runs next is what a fresh server makes.

    COMFYUI_PATH=... python -m tests.sweep.cancels [CANCELS [SEED]]

Beside the seconds until a run has stopped stand those of the server's own processors: on a machine that others use too, these are what an
idle one would have shown, for ComfyUI works in one thread here.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice, product
from typing import TYPE_CHECKING

from launch.environment import QuickstartError
from launch.server import Server
from tools.comfyui import temporary_server

from . import prompts
from .soak import process_of

if TYPE_CHECKING:
    from .log import Log


LIMIT = 4 * 3600.0
TITLE = "Cancels at random moments"
CANCELS = 100
SIZES = {
    "guider": 6,
    "ksampler": 3,
    "search": 3,
    "sds": 4,
    "kept_sds": 4,
    "colour": 6,
    "song": 8,
    "spectrogram": 6,
    "video": 5,
    "examples": 3,
}
"""A second or two of one processor."""
MOST, ALL = 2.0, 5.0
"""Seconds within which nine in ten cancels have stopped, and all."""
IDLE = 1.5
"""Load up to which the clock's seconds count; above it, those of the server's processors."""
BLOCKED = 30.0
"""Seconds by the clock after which a cancel is late on a machine of any load: one that waits takes no processor's seconds."""
TRIES = 4


@dataclass(frozen=True)
class Stop:
    """How long one cancel took, in seconds and in seconds of the server's processors."""

    kind: str
    moment: float
    seconds: float
    own: float
    load: float
    wrong: str = ""


def own_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as status:
        user, system = status.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def cancelled(server: Server, prompt: prompts.Prompt, moment: float) -> tuple[float, float] | None:
    """Seconds from a cancel, so many after the prompt is queued, until it has stopped; None where the run was done before."""
    pid, begun = process_of(server), []

    def cancel() -> None:
        begun.extend((time.monotonic(), own_seconds(pid)))
        server.post("/interrupt", {})

    timer = threading.Timer(moment, cancel)
    timer.start()
    try:
        for _ in server.run(prompt):
            pass
    except QuickstartError as error:
        if str(error) != "the run was cancelled":
            raise
        return time.monotonic() - begun[0], own_seconds(pid) - begun[1]
    finally:
        timer.cancel()
        timer.join()
    return None


def left(server: Server) -> list[str]:
    """Names of files that are not whole."""
    return [path.name for path in server.output.rglob("*") if path.suffix == ".part"]


def cancels(count: int, seed: int, on_stop: Callable[[Stop], None] = lambda _: None, kinds: tuple[str, ...] = tuple(SIZES)) -> list[Stop]:
    """Each in turn: cancelled, queued again, and compared with what a server makes that never saw a cancel."""
    chance = random.Random(seed)
    wanted = [(kind, 1000 * seed + number) for number, kind in islice(product(range(count), kinds), count)]
    whole, seconds = {}, {}
    with temporary_server() as fresh:
        for kind, given in wanted:
            began = time.monotonic()
            whole[kind, given] = [prompts.digest(path) for path in fresh.files_of(prompts.MAKERS[kind](given, SIZES[kind]))]
            seconds[kind, given] = time.monotonic() - began
    stops = []
    with temporary_server() as server:
        for kind, given in wanted:
            stops.append(tried(server, kind, given, whole[kind, given], seconds[kind, given], chance))
            on_stop(stops[-1])
    return stops


def tried(server: Server, kind: str, given: int, whole: list[str], seconds: float, chance: random.Random) -> Stop:
    """A prompt that is cancelled in its first `seconds`, and queued again; `whole`: digests of what it makes when it is left alone."""
    prompt, took, moment = prompts.MAKERS[kind](given, SIZES[kind]), None, 0.0
    for attempt in range(TRIES):
        shutil.rmtree(server.output / "sds", ignore_errors=True)
        moment = chance.uniform(0, seconds) / 2**attempt
        took = cancelled(server, prompt, moment)
        if took:
            break
        server.files_of(prompts.other())  # it was done before; what ComfyUI has kept of it must go
    if not took:
        return Stop(kind, moment, 0.0, 0.0, os.getloadavg()[0], "was done before each of its cancels")
    wrong = [f"left {name}" for name in left(server)]
    try:
        again = [prompts.digest(path) for path in server.files_of(prompt)]
        wrong += ["the next run made something else"] if again != whole else []
    except QuickstartError as error:
        wrong.append(f"the next run failed: {error}")
    return Stop(kind, round(moment, 2), round(took[0], 2), round(took[1], 2), round(os.getloadavg()[0], 1), "; ".join(wrong))


def counted(one: Stop) -> float:
    """The seconds of a stop that count: by the clock on an idle machine, and on a busy one where they are beyond what load explains."""
    return one.seconds if one.load < IDLE or one.seconds > BLOCKED else min(one.seconds, one.own)


def faults(stops: list[Stop], time_alone: bool = False) -> list[str]:
    found = [f"{one.kind}, cancelled after {one.moment} s: {one.wrong}" for one in stops if one.wrong and not time_alone]
    late = [one for one in stops if counted(one) > ALL]
    found += [f"{one.kind}, cancelled after {one.moment} s, stopped after {one.seconds} s ({one.own} of its own)" for one in late]
    times = sorted(map(counted, stops))
    if times and (ninth := times[int(0.9 * (len(times) - 1))]) > MOST:
        found.append(f"nine in ten stopped within {ninth:.2f} s, not {MOST}")
    return found


def lines_of(stops: list[Stop]) -> list[str]:
    """A row a kind."""
    rows = ["| node | cancels | median, s | 90 %, s | longest, s | longest of its own processor, s |", "|---|---|---|---|---|---|"]
    for kind in [*SIZES, ""]:
        taken = sorted(one.seconds for one in stops if one.kind == kind or not kind)
        if taken:
            own = max(one.own for one in stops if one.kind == kind or not kind)
            middle, ninth = statistics.median(taken), taken[int(0.9 * (len(taken) - 1))]
            rows.append(f"| {kind or '**all**'} | {len(taken)} | {middle:.2f} | {ninth:.2f} | {taken[-1]:.2f} | {own:.2f} |")
    loads = sorted(one.load for one in stops)
    return [*rows, "", f"Load of the machine meanwhile: {loads[0]:.1f} to {loads[-1]:.1f} on {os.cpu_count()} processors."]


def tasks(hours: float) -> list[str]:
    """Seeds, each of CANCELS cancels."""
    return [str(number) for number in range(1, 1 + max(1, round(hours / 2)))]


def run(task: str, hours: float, log: Log) -> None:
    from .oracle import LATE, SILENT, Outcome  # here, because by itself this runs without the sweep

    stops = cancels(CANCELS, int(task))
    for one in stops:
        with log.case(one.kind, f"cancelled after {one.moment} s, stopped after {one.seconds} s ({one.own} of its own)") as outcomes:
            outcomes += [Outcome(SILENT, one.wrong)] if one.wrong else []
    with log.case("how soon they stop", " ".join(lines_of(stops)[-1:] + lines_of(stops)[-3:-2])) as outcomes:
        outcomes += [Outcome(LATE, fault) for fault in faults(stops, time_alone=True)]


if __name__ == "__main__":
    count, seed = [int(argument) for argument in sys.argv[1:]] + [CANCELS, 1][len(sys.argv) - 1 :]
    stops = cancels(count, seed, on_stop=lambda one: print(one, flush=True))
    print(*lines_of(stops), *faults(stops), sep="\n")
