"""The sweep's runner, with a part that is made for these tests: what is stopped goes on, what was found stays, and the exit code tells."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from launch.environment import REPO

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the sweep works with mounts and signals of POSIX")

HERE = Path(__file__).parent
RUNNER = ("__init__", "__main__", "running", "worker", "log", "report", "parts", "oracle")
SOON = 60.0
"""Seconds within which what is waited for happens on a loaded machine too."""
TORCH = "def __getattr__(name): return type(name, (), {})"
"""In the place of torch, which the runner does not use and which takes seconds to import."""
PART = """
import os, subprocess, sys, time
from pathlib import Path
from sweep.oracle import RAW, Outcome

TITLE, LIMIT, SETUP = "Fake", 1.0, 1.0
MARKS = Path(os.environ["MARKS"])

def tasks(hours):
    return ["right", "wrong", "slow", "spins", "never", "first", "second"]

def version(task):
    return "0.16.3" if task == "never" else "0.30.0"

def after(task):
    return "first" if task == "second" else ""

def run(task, hours, log):
    if task == "spins":
        while True:
            pass
    if task == "second":
        (MARKS / "second").write_text(str((MARKS / "first").exists()))
    with log.case(task, "one") as outcomes:
        if task == "wrong" and hours < 3:
            outcomes += [Outcome(RAW, "it broke\\n\\n## Another heading"), Outcome(RAW, "twice")]
    if task == "first":
        time.sleep(1.5)
        (MARKS / "first").touch()
    if task == "slow" or task == "wrong" and hours > 3:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        try:
            log.begin(task, "two")
            (MARKS / "pids").write_text(f"{os.getpid()} {child.pid}")
            while not (MARKS / "go").exists():
                time.sleep(0.1)
            log.end(Outcome("result"))
        finally:
            child.kill()
            (MARKS / "tidied").touch()
"""


class Sweep:
    """The runner's own files with that one part, in a folder of their own, whose state is there too."""

    def __init__(self, base: Path) -> None:
        self.base, self.report = base, base / "report.md"
        package = base / "paths" / "sweep"
        package.mkdir(parents=True)
        for name in RUNNER:
            if (HERE / f"{name}.py").exists():
                shutil.copy(HERE / f"{name}.py", package)
        parts = (package / "parts.py").read_text(encoding="utf-8")
        (package / "parts.py").write_text(parts + '\nPARTS = ("fake",)\n', encoding="utf-8")
        (package / "fake.py").write_text(PART, encoding="utf-8")
        (base / "paths" / "torch.py").write_text(TORCH, encoding="utf-8")
        (base / "comfyui").mkdir()
        (base / "comfyui" / "main.py").touch()
        self.started: list[subprocess.Popen[str]] = []
        self.variables = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(base / "paths"), str(REPO)]),
            "XDG_CACHE_HOME": str(base / "cache"),
            "COMFYUI_PATH": str(base / "comfyui"),
            "MARKS": str(base),
            "PIP_NO_INDEX": "1",  # no package can be got
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "sweep", "--report", str(self.report), *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.started.append(subprocess.Popen(command, cwd=REPO, env=self.variables, start_new_session=True, **pipes))
        return self.started[-1]

    def run(self, *arguments: str) -> tuple[int, str]:
        """Its exit code, and what it printed."""
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=SOON)
        return process.returncode, said

    def at_work(self) -> list[int]:
        """The slow task's process and its child's, once they are in their second case."""
        until(lambda: (self.base / "pids").exists() and len((self.base / "pids").read_text().split()) == 2)
        return [int(pid) for pid in (self.base / "pids").read_text().split()]

    def section(self) -> str:
        return self.report.read_text(encoding="utf-8")


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    made = Sweep(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.wait()


def test_the_exit_code_tells_what_held_and_what_was_asked_wrongly(sweep: Sweep) -> None:
    assert sweep.run("fake.right")[0] == 0
    assert sweep.run("fake.wrong")[0] == 1
    code, said = sweep.run("fake.right")
    assert code == 0 and "1 done before" in said, "faults of tasks that were not asked for do not count"
    for wrong in (["fake.other"], ["--hours", "0"], ["--hours", "nan"], ["--jobs", "0"], ["--report", str(sweep.base / "none" / "x.md")]):
        code, said = sweep.run("fake.right", *wrong)
        assert code == 2 and "Traceback" not in said, f"{wrong}: {said}"
    assert sweep.run("fake.slow", "--hours", "0.0005")[0] == 3
    code, said = sweep.run("--help")
    assert "\n    130    it was stopped" in said


def test_a_fault_is_one_line_of_the_report_whatever_its_text_is(sweep: Sweep) -> None:
    sweep.report.write_text("# Results\n\n## More\n\nstays\n", encoding="utf-8")
    for _ in range(3):
        sweep.run("fake.wrong")
    assert "it broke\\n\\n## Another heading; twice" in sweep.section()
    assert "\n## Another" not in sweep.section() and sweep.section().count("it broke") == 1


@pytest.mark.parametrize("interruption", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_reports_what_had_ended_and_ends_its_tasks_tidily(sweep: Sweep, interruption: signal.Signals) -> None:
    process = sweep.start("fake.right", "fake.slow", "--jobs", "1")
    pids = sweep.at_work()
    process.send_signal(interruption)
    said, _ = process.communicate(timeout=SOON)
    assert process.returncode == 130, said
    assert gone(pids) and (sweep.base / "tidied").exists()
    assert "| right | 1 | 1 | 0 |" in sweep.section() and "crash" not in sweep.section()
    assert "Not run: wrong, slow," in sweep.section()
    (sweep.base / "go").touch()
    assert sweep.run("fake.right", "fake.slow")[0] == 0
    assert "| slow | 2 | 2 | 0 |" in sweep.section()


def test_tasks_end_with_a_sweep_that_is_killed_and_it_goes_on_from_there(sweep: Sweep) -> None:
    process = sweep.start("fake.slow")
    pids = sweep.at_work()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (log,) = (sweep.base / "cache").rglob("fake.slow.[rj]*")
    with log.open("a", encoding="utf-8") as file:
        file.write('{"group": "slow", "ca')  # killed within a line
    assert sweep.run("fake.right")[0] == 0, "what was stopped at work is not counted"
    assert "crash" not in sweep.section()
    until(lambda: gone(pids))
    (sweep.base / "pids").unlink()
    (sweep.base / "go").touch()
    assert sweep.run("fake.slow")[0] == 0
    assert "| slow | 2 | 2 | 0 |" in sweep.section()


def test_what_was_found_stays_when_a_longer_try_is_interrupted(sweep: Sweep) -> None:
    assert sweep.run("fake.wrong")[0] == 1
    process = sweep.start("fake.wrong", "--hours", "8")
    sweep.at_work()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert sweep.run("fake.wrong")[0] == 1
    assert "it broke" in sweep.section()


def test_two_sweeps_of_one_tree_are_refused_and_told_who_is_at_work(sweep: Sweep) -> None:
    first = sweep.start("fake.slow")
    sweep.at_work()
    code, said = sweep.run("fake.right")
    assert code == 2 and f"process {first.pid} since" in said and "fake.slow" in said
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=SOON)
    assert sweep.run("fake.right")[0] == 0


def test_what_spins_outside_of_a_case_is_a_hang_and_the_report_says_that_the_rest_was_not_tried(sweep: Sweep) -> None:
    assert sweep.run("fake.spins")[0] == 1
    assert "over 1 s of the processor's time" in sweep.section()
    assert "tried no further: spins." in sweep.section()


def test_a_comfyui_that_cannot_be_fetched_is_a_fault_of_its_task_alone(sweep: Sweep) -> None:
    code, said = sweep.run("fake.never", "fake.right", "--jobs", "1")
    assert code == 1 and "Traceback" not in said
    assert "no ComfyUI 0.16.3: pip could not get" in sweep.section() and "| right | 1 | 1 | 0 |" in sweep.section()


def test_a_task_waits_for_the_one_that_it_is_compared_with(sweep: Sweep) -> None:
    assert sweep.run("fake.second", "fake.first", "--jobs", "2")[0] == 0
    assert (sweep.base / "second").read_text() == "True"


def test_templates_of_other_versions_wait_for_the_newest_ones() -> None:
    from launch.environment import NEWEST
    from sweep import soak, versions

    templates = [task for task in versions.tasks(2.0) if task.startswith("templates")]
    assert [versions.after(task) for task in templates] == [""] + [f"templates-{NEWEST}"] * (len(templates) - 1)
    assert soak.tasks(2.0) == soak.tasks(8.0), "a task has one name, however long it is"


def test_a_log_tells_what_it_holds_of_whole_lines(tmp_path: Path) -> None:
    from sweep.log import Log, read
    from sweep.oracle import RAW, Outcome

    log = tmp_path / "log"
    log.write_text(json.dumps({"kind": "result"}) + '\n{"group": "a", "case": "1"}\n{"kind": "res', encoding="utf-8")
    Log(log).end(Outcome(RAW, "it died"))
    assert [(case["group"], case["text"]) for case in read(log)] == [("a", "it died")]


@pytest.mark.parametrize("in_git", [True, False])
def test_another_tree_is_one_in_which_anything_differs_that_a_case_may_run(in_git: bool, tmp_path: Path, monkeypatch) -> None:
    from sweep import __main__ as runner
    from sweep import running

    for module in (runner, running):
        monkeypatch.setattr(module, "REPO", tmp_path)
    if in_git:
        subprocess.run(["git", "init", "-q", tmp_path], check=True)
    before = runner.digest()
    for name in ("lab/RESULTS.md", "lab/results/table.csv", "docs/picture.jpg", "README.md", "lab/RESULTS.md.part"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("what no case runs", encoding="utf-8")
    assert runner.digest() == before
    for name in ("lab/evaluate/run.py", "tests/small_templates.py", "tools/comfyui.py", "pyproject.toml", "locales/zh/nodeDefs.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("what a case may run", encoding="utf-8")
        assert runner.digest() != before, name
        before = runner.digest()
