"""Run the parts' tasks side by side, each in a process of its own, and write the report: see the package's docstring."""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from launch.environment import REPO, cache_folder

from .parts import PARTS, part
from .report import faults, summary, write
from .running import Running, git, hours_of

LOOK = 0.5
MOST_HOURS, MOST_JOBS = 168.0, 64
HELD, FAULTS, USAGE, LEFT, FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130
"""What it ends with: see the package's docstring."""
RESULTS = ("lab/results/", "lab/RESULTS.md", "docs/")
"""What no case runs, beside Markdown: a sweep writes its own report there."""

Task = tuple[str, str]
"""A part and one of its tasks."""


def digest() -> str:
    """Of all files of the tree that a case may run: what was found out about other code counts for nothing."""
    names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    if names == [""]:
        names = [file.relative_to(REPO).as_posix() for file in REPO.rglob("*") if "__pycache__" not in file.parts]
    whole = hashlib.sha256()
    for name in sorted(set(names)):
        if not name.startswith((*RESULTS, ".", "output/")) and not name.endswith((".md", ".md.part")) and (REPO / name).is_file():
            whole.update(name.encode() + hashlib.sha256((REPO / name).read_bytes()).digest())
    return whole.hexdigest()[:12]


def hours(text: str) -> float:
    number = float(text)
    if not 0 < number <= MOST_HOURS:  # NaN is not
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most {MOST_HOURS:g}")
    return number


def jobs(text: str) -> int:
    number = int(text)
    if not 1 <= number <= MOST_JOBS:
        raise argparse.ArgumentTypeError(f"{text} is not 1 to {MOST_JOBS}")
    return number


def parsed() -> tuple[argparse.Namespace, list[Task], list[Task]]:
    """The arguments, the tasks that they name, and all tasks of the same parts."""
    about = sys.modules[__package__ or ""].__doc__
    formatted = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="quickstart.py --test sweep", description=about, formatter_class=formatted)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}, or tasks, as fuzz.KeepBest; all without a name")
    parser.add_argument("--hours", type=hours, default=2.0, help="the most that it may take, 2 by default; more hours try more")
    parser.add_argument("--jobs", type=jobs, default=min(2, os.cpu_count() or 1), help="tasks side by side")
    parser.add_argument("--fresh", action="store_true", help="begin anew, where it would go on")
    parser.add_argument("--report", type=Path, default=REPO / "lab" / "RESULTS.md", help="Markdown whose section on the sweep is written")
    arguments = parser.parse_args()
    chosen = arguments.parts or list(PARTS)
    names = [name for name in PARTS if any(one.partition(".")[0] == name for one in chosen)]
    every = [(name, task) for name in names for task in part(name).tasks(arguments.hours)]
    if unknown := set(chosen) - {*names, *map(".".join, every)}:
        there = ", ".join(map(".".join, every)) or ", ".join(PARTS)
        parser.error(f"no part or task of that name at {arguments.hours:g} hours: {', '.join(sorted(unknown))}; there are {there}")
    try:
        report = arguments.report.resolve()
        if report.exists():
            report.open("r+").close()
        tempfile.TemporaryFile(dir=report.parent).close()
    except OSError as error:
        parser.error(f"the report could not be written: {error}. Name another file with --report.")
    return arguments, [(name, task) for name, task in every if name in chosen or f"{name}.{task}" in chosen], every


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Hold a state folder; where another sweep does, say which, and end."""
    holder, lock = state / "holder", FileLock(state / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        who = holder.read_text(encoding="utf-8") if holder.exists() else "unknown"
        print(f"sweep: another one is at work on this tree ({who}): wait for it, or stop it.", file=sys.stderr)
        sys.exit(USAGE)
    with lock:
        holder.write_text(f"process {os.getpid()} since {time.strftime('%H:%M')}: {' '.join(['sweep', *sys.argv[1:]])}", encoding="utf-8")
        yield


def ready(waiting: Sequence[Task], running: Sequence[Running]) -> Task | None:
    """The first task that waits for no other."""
    to_come = {*waiting, *((one.name, one.task) for one in running)}
    for name, task in waiting:
        after = getattr(part(name), "after", lambda _: "")(task)
        if (name, after) not in to_come:
            return name, task
    return None


def work_through(waiting: list[Task], state: Path, of_hours: float, side_by_side: int) -> None:
    """Until no task is left or the time is over; what is stopped at work begins anew when the same command goes on."""
    began, running = time.monotonic(), []
    try:
        while time.monotonic() - began < 3600 * of_hours:
            while len(running) < side_by_side and (following := ready(waiting, running)):
                waiting.remove(following)
                running.append(Running(state, *following, of_hours))
            if not running:
                break
            time.sleep(LOOK)
            for one in [one for one in running if one.ended()]:
                running.remove(one)
                print(f"{time.monotonic() - began:7.0f} s  {one.name} {one.task}: {summary([one.kept])}", flush=True)
    finally:
        for one in running:
            one.drop()


def sweep(arguments: argparse.Namespace, tasks: list[Task], every: list[Task], state: Path) -> int:
    def left() -> list[Task]:
        return [(name, task) for name, task in tasks if hours_of(state / f"{name}.{task}.done") < arguments.hours]

    for name, task in tasks if arguments.fresh else ():
        for kept in ("done", "jsonl"):
            (state / f"{name}.{task}.{kept}").unlink(missing_ok=True)
    waiting, interrupted = left(), False
    print(f"{len(tasks)} tasks, {len(tasks) - len(waiting)} done before; state in {state}", flush=True)
    try:
        work_through(waiting, state, arguments.hours, arguments.jobs)
    except KeyboardInterrupt:
        interrupted = True
    write(arguments.report, state, every)
    found, remaining = faults(state, tasks), len(left())
    print(f"{'stopped; ' if interrupted else ''}{found} faults; the report is in {arguments.report}")
    if remaining:
        print(f"{remaining} tasks are left: run it again")
    if digest() != state.name:
        print("The tree was changed meanwhile: some of this is of other code than the rest, and does not count for the tree as it is now.")
    return INTERRUPTED if interrupted else FAULTS if found else LEFT if remaining else HELD


def main() -> int:
    arguments, tasks, every = parsed()
    for interruption in (signal.SIGINT, signal.SIGTERM):
        signal.signal(interruption, signal.default_int_handler)
    state = cache_folder() / "sweep" / digest()
    state.mkdir(parents=True, exist_ok=True)
    with alone(state):
        return sweep(arguments, tasks, every, state)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception:
        traceback.print_exc()
        sys.exit(FAILED)
