"""An output folder on a full and on a read-only disk: said in one sentence, nothing half-written, and all is right once there is room.
On a slow disk the same is made as on a fast one, and a cancel leaves nothing half-written.

COMFYUI_PATH=... python -m tests.sweep.disks        needs the right to mount a tmpfs, and strace, which makes the disk slow
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from launch.environment import QuickstartError
from launch.server import Server

from . import prompts
from .cancels import cancelled
from .kills import alone, broken
from .oracle import SILENT, Outcome, refusal
from .soak import process_of

if TYPE_CHECKING:
    from .log import Log


LIMIT = 3600.0
TITLE = "Full, read-only and slow disks"
KINDS = ("ksampler", "search", "sds", "kept_sds", "song", "spectrogram")
"""Prompts that end in a node of ours that writes."""
SLOW, DELAY = "slow", "20ms"
FOLDER = "output"
REMEDIES = ("Make room", "allow writing there")


@contextlib.contextmanager
def server_on(megabytes: int) -> Iterator[Server]:
    """A server whose output folder is a disk of that size."""
    with tempfile.TemporaryDirectory() as folder:
        base, output = Path(folder, "base"), Path(folder, "output")
        output.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", output], check=True)
        try:
            with Server(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), base, output, options=("--cpu",)) as server:
                yield server
        finally:
            subprocess.run(["umount", "-l", output], check=True)


def fill(output: Path, left: int) -> None:
    with (output / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while True:
            ballast.write(bytes(4096))
    os.truncate(output / "ballast", max(0, (output / "ballast").stat().st_size - left))


def free(output: Path) -> None:
    (output / "ballast").unlink()


def lock(output: Path, _: int = 0) -> None:
    subprocess.run(["mount", "-o", "remount,ro", output], check=True)


def unlock(output: Path) -> None:
    subprocess.run(["mount", "-o", "remount,rw", output], check=True)


DISKS: dict[str, tuple[Callable[[Path, int], None], Callable[[Path], None], tuple[int, ...]]] = {
    "full": (fill, free, (0, 8_192, 60_000)),
    "read-only": (lock, unlock, (0,)),
}
"""By name what spoils the disk, what mends it, and the bytes that are left."""


def inputs_of(server: Server) -> dict[str, list[str]]:
    """Names of every node's inputs, and FOLDER: it is the folder that is at fault here, and no input."""
    nodes = server.get("/object_info").items()
    return {name: [FOLDER, *(one for group in node["input"].values() for one in group)] for name, node in nodes}


def badly_said(error: str, inputs: Mapping[str, Sequence[str]]) -> list[str]:
    """What is wrong with a failed run's error on a disk that cannot be written; nothing where it says what, where and what to do."""
    node, failed, text = error.partition(" failed: ")
    if not failed or not any(remedy in text for remedy in REMEDIES):
        return [f"it says: {error}"]
    outcome = refusal(inputs, node, text, worked=False, where="")  # whether models have worked: a disk may fill up meanwhile
    return [f"{outcome.kind}: {outcome.text}"] if outcome.is_fault else []


def tried(disk: str) -> list[tuple[str, str]]:
    """Each prompt on that disk, by its name, with what was wrong, or nothing."""
    spoil, mend, lefts = DISKS[disk]
    results = []
    with server_on(40) as server:
        inputs = inputs_of(server)
        for number, (kind, left) in enumerate((kind, left) for kind in KINDS for left in lefts):
            prompt, wrong = prompts.MAKERS[kind](500 + number, 0), []
            spoil(server.output, left)
            try:
                if not server.files_of(prompt):
                    wrong.append("nothing was saved, and nothing said")
            except QuickstartError as error:
                wrong += badly_said(str(error), inputs)
            wrong += [f"{path.name} was left" for path in server.output.rglob("*.part")]
            wrong += broken(server.output) + [f"{name} is alone" for name in alone(server.output)]
            mend(server.output)
            try:
                wrong += [] if server.files_of(prompts.MAKERS[kind](700 + number, 0)) else ["with room nothing was saved"]
            except QuickstartError as error:
                wrong.append(f"with room: {error}")
            results.append((f"{kind}, {left} bytes left" if disk == "full" else kind, "; ".join(wrong)))
    return results


@contextlib.contextmanager
def slowed(server: Server) -> Iterator[None]:
    """Each write of the server, and each new name of a file, takes DELAY longer."""
    calls = "write,writev,pwrite64,rename,renameat,renameat2,fsync"
    options = ["-f", "-qq", "-o", os.devnull, "-e", f"trace={calls}", "-e", f"inject={calls}:delay_enter={DELAY}"]
    tracer = subprocess.Popen(["strace", *options, "-p", str(process_of(server))])
    time.sleep(1.0)
    try:
        assert tracer.poll() is None, "strace could not slow the server down"
        yield
    finally:
        tracer.terminate()
        tracer.wait()


def tried_slowly() -> list[tuple[str, str]]:
    """Each prompt on a slow disk, run and cancelled, with what was wrong, or nothing."""
    results, chance = [], random.Random(1)

    def run(kind: str, number: int) -> list[str]:
        server.files_of(prompts.other())  # ComfyUI keeps nothing of the runs before
        return [prompts.digest(path) for path in server.files_of(prompts.MAKERS[kind](number, 0))]

    with server_on(200) as server:
        for number, kind in enumerate(KINDS, start=900):
            fast = run(kind, number)
            wrong = [] if fast else ["nothing was saved, and nothing said"]
            with slowed(server):
                began = time.monotonic()
                try:
                    wrong += [] if run(kind, number) == fast else ["it made something else"]
                    seconds = time.monotonic() - began
                    server.files_of(prompts.other())
                    cancelled(server, prompts.MAKERS[kind](number, 0), chance.uniform(0.2, 0.9) * seconds)
                    wrong += [f"{path.name} was left" for path in server.output.rglob("*.part")]
                    wrong += [] if run(kind, number) == fast else ["after a cancel it made something else"]
                except QuickstartError as error:
                    wrong.append(f"it says: {error}")
            results.append((kind, "; ".join(wrong + broken(server.output) + [f"{name} is alone" for name in alone(server.output)])))
    return results


def tasks(hours: float) -> list[str]:
    return [*DISKS, SLOW]


def run(task: str, hours: float, log: Log) -> None:
    for name, wrong in tried_slowly() if task == SLOW else tried(task):
        with log.case(task, name) as outcomes:
            outcomes += [Outcome(SILENT, wrong)] if wrong else []


if __name__ == "__main__":
    for disk in sys.argv[1:] or [*DISKS, SLOW]:
        began = time.monotonic()
        for name, wrong in tried_slowly() if disk == SLOW else tried(disk):
            print(disk, name, wrong or "right", flush=True)
        print(f"{time.monotonic() - began:.0f} s", flush=True)
