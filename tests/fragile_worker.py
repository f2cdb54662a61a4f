"""What a worker does in tests of workers: squares numbers, and is killed by a file with a number's name."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass
class FragileWorker:
    """Squares numbers. A task whose number is the name of a file in `folder` kills its process and takes the file with it, if it is empty.

    Each worker leaves a file named after its process.
    """

    folder: Path

    def __post_init__(self) -> None:
        (self.folder / f"worker-{os.getpid()}").touch()

    def run(self, task: int) -> tuple[int, int]:
        fatal = self.folder / str(task)
        if fatal.exists():
            if not fatal.read_text():
                fatal.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if task < 0:
            raise ArithmeticError(f"{task} is negative")
        return task, task * task
