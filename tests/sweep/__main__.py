"""Run the parts' tasks side by side, each in a process of its own, and write the report: see the package's docstring."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from launch.environment import NEWEST, REPO, cache_folder, comfyui

from .log import Log, read
from .oracle import Outcome
from .parts import PARTS, part
from .report import CRASH, HANG, summary, write

LIMIT = 30.0
"""Seconds of the processor's time that a case may take, unless its part says otherwise: a loaded machine is no hang."""
STILL, LEAST = 300.0, 2.0
"""Seconds by the clock in which a case must take at least so many of the processor's: one that waits for ever takes none."""
LOOK = 0.5
WATCHED = ("itsound_core", "bridge", "nodes", "launch", "workflows", "models", "tests/sweep", "requirements-dev.txt", "__init__.py")
"""What makes another state: what was found out about other code counts for nothing."""


def digest() -> str:
    files = [file for name in WATCHED for file in ((REPO / name).rglob("*") if (REPO / name).is_dir() else [REPO / name])]
    whole = hashlib.sha256()
    for file in sorted(file for file in files if file.is_file() and "__pycache__" not in file.parts):
        whole.update(str(file.relative_to(REPO)).encode() + hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()[:12]


def commit() -> str:
    """The tree's commit, and whether it has been changed since."""
    found = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=7"], cwd=REPO, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


def hours_of(done: Path) -> float:
    """For how many hours a task was done by the file that it left: more of them try more. 0 without one."""
    return json.loads(done.read_text(encoding="utf-8"))["hours"] if done.exists() else 0.0


class Running:
    """A task's process, watched by its log."""

    def __init__(self, state: Path, name: str, task: str, hours: float) -> None:
        module = part(name)
        self.log, self.done = state / f"{name}.{task}.jsonl", state / f"{name}.{task}.done"
        self.limit = getattr(module, "LIMIT", LIMIT)
        self.log.unlink(missing_ok=True)
        version = module.version(task) if hasattr(module, "version") else NEWEST
        folder = comfyui(version, Path(sys.executable))
        variables = {**os.environ, "COMFYUI_PATH": str(folder), "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        command = [sys.executable, "-m", "sweep.worker", name, task, str(self.log), str(hours)]
        self.output = (state / f"{name}.{task}.out").open("wb")
        self.process = psutil.Popen(command, cwd=REPO, env=variables, stdout=self.output, stderr=subprocess.STDOUT)
        self.case, self.since = "", 0.0
        self.commit, self.hours = commit(), hours
        self.began = self.moved = time.monotonic()
        self.spent = 0.0

    def ended(self) -> bool:
        """Whether it is over; a case that takes too long ends it."""
        code = self.process.poll()
        cases = list(read(self.log))
        if code is None:
            spent = self._processor_time()
            current = f"{len(cases)} {cases[-1]['case']}" if cases and "kind" not in cases[-1] else ""
            if current != self.case or not current:
                self.case, self.since = current, spent
            if abs(spent - self.spent) > LEAST:  # less than before where a server has ended
                self.moved, self.spent = time.monotonic(), spent
            waits = time.monotonic() - self.moved > STILL
            if spent - self.since > self.limit or waits:
                self.stop()
                if not cases or "kind" in cases[-1]:
                    Log(self.log).begin("the task itself", "between cases")
                Log(self.log).end(Outcome(HANG, f"waited for {STILL:g} s" if waits else f"over {self.limit:g} s of the processor's time"))
                return self._close()
            return False
        if code:
            tail = Path(self.output.name).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            if not cases or "kind" in cases[-1]:
                Log(self.log).begin("the task itself", "between cases")
            Log(self.log).end(Outcome(CRASH, f"the process ended with {code}: {' '.join(tail)}"))
        return self._close()

    def _processor_time(self) -> float:
        try:
            return sum(sum(one.cpu_times()[:2]) for one in (self.process, *self.process.children(recursive=True)))
        except psutil.Error:
            return self.since

    def stop(self) -> None:
        for child in (*self.process.children(recursive=True), self.process):
            child.kill()
        self.process.wait()

    def _close(self) -> bool:
        self.output.close()
        done = {"day": time.strftime("%Y-%m-%d"), "commit": self.commit, "seconds": round(time.monotonic() - self.began)}
        self.done.write_text(json.dumps(done | {"hours": self.hours}), encoding="utf-8")
        return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="quickstart.py --test sweep", description=sys.modules[__package__ or ""].__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}, or tasks, as fuzz.KeepBest; all without a name")
    parser.add_argument("--hours", type=float, default=2.0, help="the most that it may take; more hours try more")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="tasks side by side")
    parser.add_argument("--fresh", action="store_true", help="begin anew, where it would go on")
    parser.add_argument("--report", type=Path, default=REPO / "lab" / "RESULTS.md", help="Markdown whose section on the sweep is written")
    arguments = parser.parse_args()
    chosen = arguments.parts or list(PARTS)
    names = [name for name in PARTS if any(one.partition(".")[0] == name for one in chosen)]
    every = [(name, task) for name in names for task in part(name).tasks(arguments.hours)]
    if unknown := set(chosen) - {*names, *map(".".join, every)}:
        parser.error(f"no part or task of that name: {', '.join(sorted(unknown))}")
    state = cache_folder() / "sweep" / digest()
    state.mkdir(parents=True, exist_ok=True)
    tasks = [(name, task) for name, task in every if name in chosen or f"{name}.{task}" in chosen]
    if arguments.fresh:
        for name, task in tasks:
            (state / f"{name}.{task}.done").unlink(missing_ok=True)
    waiting = [(name, task) for name, task in tasks if hours_of(state / f"{name}.{task}.done") < arguments.hours]
    print(f"{len(tasks)} tasks, {len(tasks) - len(waiting)} done before; state in {state}", flush=True)
    began, running = time.monotonic(), []
    end = began + 3600 * arguments.hours
    try:
        while (waiting and time.monotonic() < end) or running:
            while waiting and len(running) < arguments.jobs and time.monotonic() < end:
                running.append((*waiting[0], Running(state, *waiting.pop(0), arguments.hours)))
            time.sleep(LOOK)
            for name, task, one in running[:]:
                if one.ended():
                    running.remove((name, task, one))
                    print(f"{time.monotonic() - began:7.0f} s  {name} {task}: {summary([one.log])}", flush=True)
                elif time.monotonic() > end:  # it begins anew when the same command goes on
                    one.stop()
                    one.log.unlink(missing_ok=True)  # its last case was stopped and is no crash
                    running.remove((name, task, one))
                    waiting.append((name, task))
    finally:
        for _, _, one in running:
            one.stop()
    faults = write(arguments.report, state, every)
    print(f"{faults} faults; the report is in {arguments.report}" + (f"; {len(waiting)} tasks are left: run it again" if waiting else ""))
    return 1 if faults else 2 if waiting else 0


if __name__ == "__main__":
    sys.exit(main())
