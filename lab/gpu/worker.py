"""One process of the GPU check: starts ComfyUI with the options given, runs its parts, and writes a JSON line a record.

    python -m lab.gpu.worker --parts nodes distillation --records FILE [--wait-for FILE] [--until SECONDS] [--tiny] -- COMFYUI-OPTIONS

Parts that measure speed are prepared first and wait until the file --wait-for exists: by then nothing else uses the card.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .comfyui import Pack, start
from .records import FAILED, MEASURED, Record
from .scale import FULL, TINY, Scale

CORRECTNESS = ("nodes", "distillation", "agreement", "half agreement")
SPEED = ("a step", "joint sampling", "sound and colour", "compiled in channels last", "other batches compiled")
Emit = Callable[[Record], None]


def records_of(part: str, records: Callable[[], Iterable[Record]], emit: Emit) -> None:
    """Run a part; what it raises is its last record. An interrupt of the user's own is the only thing that gets through."""
    began = time.perf_counter()
    try:
        for record in records():
            emit(record)
    except KeyboardInterrupt:
        raise
    except BaseException:  # ComfyUI's interrupt is no Exception; the parts after this one must run  # noqa: BLE001
        emit(Record(part, "stopped by an error", FAILED, {"seconds": time.perf_counter() - began}, traceback.format_exc(limit=-8)))
    else:
        emit(Record("parts", part, MEASURED, {"seconds": time.perf_counter() - began}))


def run(parts: Sequence[str], pack: Pack, scale: Scale, emit: Emit, left: Callable[[], float], wait: Callable[[], None]) -> None:
    """The parts by their names, in order."""
    from . import correctness, speed

    simple: dict[str, Callable[[Pack, Scale], Iterator[Record]]] = {
        "nodes": correctness.every_node,
        "distillation": correctness.distillation,
        "agreement": correctness.agreement,
        "half agreement": correctness.half_agreement,
    }
    timed: dict[str, Callable[[Any, Callable[[], float]], Iterator[Record]]] = {
        "a step": speed.reads_and_kernels,
        "joint sampling": speed.joint_sampling,
        "compiled in channels last": speed.compiled_in_channels_last,
        "other batches compiled": speed.other_batches_compiled,
    }
    with TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as scratch:
        benches: list[speed.Bench] = []
        if set(timed) & set(parts):

            def prepare() -> Iterator[Record]:
                benches.append(speed.prepare(pack, scale, Path(scratch), "other batches compiled" in parts))
                yield from ()

            records_of("preparing joint sampling", prepare, emit)
        wait()
        for part in parts:
            if part == "sound and colour":
                records_of(part, partial(speed.sound_and_colour, pack, scale), emit)
            elif part in simple:
                records_of(part, partial(simple[part], pack, scale), emit)
            elif benches:
                records_of(part, partial(timed[part], benches[0], left), emit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", required=True, choices=(*CORRECTNESS, *SPEED))
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--wait-for", type=Path)
    parser.add_argument("--until", type=float, default=float("inf"), help="time.time() at which the run should end")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("options", nargs="*", help="of ComfyUI")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)

    with args.records.open("a", encoding="utf-8") as file:

        def emit(record: Record) -> None:
            file.write(json.dumps(asdict(record)) + "\n")
            file.flush()

        def wait() -> None:
            while args.wait_for and not args.wait_for.exists():
                time.sleep(0.1)

        label = f"{' '.join(args.options) or 'ComfyUI as it starts'}: {', '.join(args.parts)}"

        def begin() -> Iterator[Record]:
            yield Record("processes", label, MEASURED, start(args.options))

        started: list[Pack] = []
        records_of("starting ComfyUI", lambda: _each(begin(), lambda: started.append(Pack())), emit)
        if started:
            run(args.parts, started[0], TINY if args.tiny else FULL, emit, lambda: args.until - time.time(), wait)


def _each(records: Iterator[Record], then: Callable[[], Any]) -> Iterator[Record]:
    yield from records
    then()


if __name__ == "__main__":
    main()
