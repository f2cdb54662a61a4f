"""An output folder on a full and on a read-only disk: said in one sentence, nothing half-written, and all is right once there is room.

COMFYUI_PATH=... python -m tests.sweep.disks        needs the right to mount a tmpfs
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from launch.environment import QuickstartError
from launch.server import Server

from . import prompts
from .kills import alone, broken

if TYPE_CHECKING:
    from .log import Log


LIMIT = 3600.0
TITLE = "Full and read-only disks"
KINDS = ("ksampler", "search", "sds", "kept_sds", "song", "spectrogram")
"""Prompts that end in a node of ours that writes."""
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


def tried(disk: str) -> list[tuple[str, str]]:
    """Each prompt on that disk, by its name, with what was wrong, or nothing."""
    spoil, mend, lefts = DISKS[disk]
    results = []
    with server_on(40) as server:
        for number, (kind, left) in enumerate((kind, left) for kind in KINDS for left in lefts):
            prompt, wrong = prompts.MAKERS[kind](500 + number, 0), []
            spoil(server.output, left)
            try:
                server.files_of(prompt)
            except QuickstartError as error:
                said = str(error)
                if not any(remedy in said for remedy in REMEDIES) or "failed: " not in said:
                    wrong.append(f"it says: {said}")
            wrong += [f"{path.name} was left" for path in server.output.rglob("*.part")]
            wrong += broken(server.output) + [f"{name} is alone" for name in alone(server.output)]
            mend(server.output)
            try:
                wrong += [] if server.files_of(prompts.MAKERS[kind](700 + number, 0)) else ["with room nothing was saved"]
            except QuickstartError as error:
                wrong.append(f"with room: {error}")
            results.append((f"{kind}, {left} bytes left" if disk == "full" else kind, "; ".join(wrong)))
    return results


def tasks(hours: float) -> list[str]:
    return list(DISKS)


def run(task: str, hours: float, log: Log) -> None:
    from .oracle import SILENT, Outcome  # here, because by itself this runs without the sweep

    for name, wrong in tried(task):
        with log.case(task, name) as outcomes:
            outcomes += [Outcome(SILENT, wrong)] if wrong else []


if __name__ == "__main__":
    for disk in sys.argv[1:] or DISKS:
        began = time.monotonic()
        for name, wrong in tried(disk):
            print(disk, name, wrong or "right", flush=True)
        print(f"{time.monotonic() - began:.0f} s", flush=True)
