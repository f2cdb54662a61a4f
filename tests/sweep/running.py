"""A task in a process of its own, watched by its log, and what it leaves when it has ended: NAME.TASK.jsonl and NAME.TASK.done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from launch.environment import NEWEST, REPO, QuickstartError, comfyui

from .log import Log, read, write_whole
from .oracle import Outcome
from .parts import part
from .report import CRASH, HANG
from .worker import GRACE, kill

LIMIT = 30.0
"""Seconds of the processor's time that a case may take, unless its part says otherwise: a loaded machine is no hang."""
SETUP = 300.0
"""The same of the time outside of cases, where a case may not take more anyway."""
STILL, LEAST = 300.0, 2.0
"""Seconds by the clock in which it must take at least so many of the processor's: one that waits for ever takes none."""


def hours_of(done: Path) -> float:
    """For how many hours a task was done by the file that it left: more of them try more. 0 without one."""
    return json.loads(done.read_text(encoding="utf-8"))["hours"] if done.exists() else 0.0


def git(*arguments: str) -> str:
    """What git says of the tree; nothing where there is no git, or the tree is an archive's."""
    try:
        return subprocess.run(["git", *arguments], cwd=REPO, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


class Running:
    """One task at work. Its log takes the place of the one before, of fewer hours, only when the task has ended."""

    def __init__(self, state: Path, name: str, task: str, hours: float) -> None:
        module = part(name)
        self.name, self.task, self.hours = name, task, hours
        self.commit = git("describe", "--always", "--dirty", "--abbrev=7").strip() or "unknown"
        self.kept, self.done = state / f"{name}.{task}.jsonl", state / f"{name}.{task}.done"
        self.log, self.output = state / f"{name}.{task}.running", state / f"{name}.{task}.out"
        self.limit = getattr(module, "LIMIT", LIMIT)
        self.setup = getattr(module, "SETUP", max(SETUP, self.limit))
        self.log.unlink(missing_ok=True)
        self.cases, self.inside, self.broken_off = 0, False, False
        self.began = self.moved = time.monotonic()
        self.since = self.spent = 0.0
        self.process: psutil.Popen | None = None
        self.family: list[psutil.Process] = []
        version = module.version(task) if hasattr(module, "version") else NEWEST
        try:
            folder = comfyui(version, Path(sys.executable))
        except (QuickstartError, OSError) as error:
            self._fault(CRASH, f"no ComfyUI {version}: {error}")
            return
        variables = {**os.environ, "COMFYUI_PATH": str(folder), "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        command = [sys.executable, "-m", "sweep.worker", name, task, str(self.log), str(hours), str(os.getpid())]
        with self.output.open("wb") as output:  # in a session of its own: Ctrl-C is for the sweep, which stops its tasks
            self.process = psutil.Popen(
                command, cwd=REPO, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def ended(self) -> bool:
        """Whether it is over; what takes too long, in a case or outside of one, ends it."""
        if self.process is None:
            return self._close()
        code = self.process.poll()
        if code is None:
            too_long = self._too_long()
            if not too_long:
                return False
            self._kill()
            self._fault(HANG, too_long)
        elif code:
            tail = self.output.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            kill(self.family)  # the servers of a process that could not end them any more
            self._fault(CRASH, f"the process ended with {code}: {' '.join(tail)}")
        return self._close()

    def drop(self) -> None:
        """Stop it at work, and keep nothing: the case that was stopped is no crash, and the task begins anew another time."""
        self._kill()
        self.log.unlink(missing_ok=True)

    def _too_long(self) -> str:
        """What it took too long for, if it did."""
        cases = list(read(self.log))
        at = len(cases), bool(cases) and "kind" not in cases[-1]
        now, spent = time.monotonic(), self._processor_time()
        if at != (self.cases, self.inside):
            (self.cases, self.inside), self.since, self.moved = at, spent, now
        if abs(spent - self.spent) > LEAST:  # less than before where a server has ended
            self.moved, self.spent = now, spent
        limit, still = (self.limit, min(STILL, 2 * self.limit)) if self.inside else (self.setup, STILL)
        if spent - self.since > limit:
            return f"over {limit:g} s of the processor's time"
        return f"waited for {still:g} s" if now - self.moved > still else ""

    def _processor_time(self) -> float:
        assert self.process
        try:
            self.family = self.process.children(recursive=True)
            return sum(sum(one.cpu_times()[:2]) for one in (self.process, *self.family))
        except psutil.Error:
            return self.spent

    def _kill(self) -> None:
        """By SIGTERM, on which a task ends its servers and unmounts its disks; what is left after GRACE by SIGKILL."""
        if self.process is None or self.process.poll() is not None:
            return
        family = [*self.process.children(recursive=True), self.process]
        self.process.terminate()
        try:
            self.process.wait(GRACE)
        except psutil.TimeoutExpired:
            family += self.process.children(recursive=True)
        kill(family)
        self.process.wait()

    def _fault(self, kind: str, text: str) -> None:
        """Of the case that is open; of the task itself where none is."""
        cases = list(read(self.log))
        log = Log(self.log)
        if not cases or "kind" in cases[-1]:
            log.begin("the task itself", "outside of cases")
        log.end(Outcome(kind, text))
        self.broken_off = True

    def _close(self) -> bool:
        self.done.unlink(missing_ok=True)  # first, because a log counts with the file beside it
        if self.log.exists():
            os.replace(self.log, self.kept)
        else:
            self.kept.unlink(missing_ok=True)
        note = {"day": time.strftime("%Y-%m-%d"), "commit": self.commit, "seconds": round(time.monotonic() - self.began)}
        write_whole(self.done, json.dumps(note | {"hours": self.hours, "broken_off": self.broken_off}))
        return True
