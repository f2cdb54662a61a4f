"""One task of a part, in a process of its own, which ends with the sweep that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from .log import Log
from .parts import part

GRACE = 10.0
"""Seconds that a task which is stopped has to end its servers and to unmount its disks."""
family: list[psutil.Process] = []
"""Its children when it was stopped: those of a child that ends first could not be found afterwards."""


def kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def stopped(*_: object) -> None:
    """A KeyboardInterrupt, because Hypothesis takes SystemExit for a failure of what it tries."""
    family.extend(psutil.Process().children(recursive=True))
    raise KeyboardInterrupt


def end_with(parent: int) -> None:
    """Wait until that process is gone, killed perhaps, and stop then."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    kill([*family, psutil.Process()])


if __name__ == "__main__":
    name, task, path, hours, parent = sys.argv[1:]
    signal.signal(signal.SIGTERM, stopped)
    threading.Thread(target=end_with, args=(int(parent),), daemon=True).start()
    try:
        part(name).run(task, float(hours), Log(Path(path)))
    finally:
        kill(family)
