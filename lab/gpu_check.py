"""Whether everything holds on a graphics card, and how close to its limit: eight minutes, nothing to download.

    COMFYUI_PATH=... python -m lab.gpu_check --output output/gpu
    COMFYUI_PATH=... python -m lab.gpu_check --output output/gpu --minutes 2.5 --only correctness
    COMFYUI_PATH=... python -m lab.gpu_check --output output/gpu --dry-run             # tiny sizes, on a CPU, in seconds

Correctness first, four processes at once, each a ComfyUI with options of its own: dynamic VRAM, its default on NVIDIA (every node once,
score distillation through its node, the joint guider against the plain loop in float16); without it (the guider in float32, float16 and
bfloat16, score distillation); --lowvram, and --novram, which keeps no weight on the card (the guider and score distillation). Then speed,
alone on the card: the plain loop, ComfyUI's own guider, the joint guider and the joint guider compiled, on random UNets of Stable Diffusion
1.5's size in float16; Griffin-Lim, vocoder, imprint and colour on the card and on the CPU; joint sampling once more with dynamic VRAM.

Every part is caught by itself. report.json and report.md are written anew after every record, so that a run that is ended keeps what it
has. Aims that are not met are "failed" beside what is wrong; the exit status is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from lab.gpu.records import FAILED, SKIPPED, Record, write

REPO = Path(__file__).resolve().parent.parent
STATIC = "--disable-dynamic-vram"
MARGIN = 6.0
"""Seconds kept back of the time allowed, for ending processes and writing."""
CORRECTNESS_SHARE = 0.6
"""Of the time allowed, at most."""
LEAST = 15.0
"""Seconds under which no measuring begins."""
THREADS = "4"
"""A process on the CPU: six of them run at once."""
LOG_LINES = 15


@dataclass(frozen=True)
class Group:
    """Parts that one process runs."""

    name: str
    kind: str
    options: tuple[str, ...]
    parts: tuple[str, ...]


GROUPS = (
    Group("dynamic VRAM", "correctness", ("--enable-dynamic-vram",), ("nodes", "distillation", "half agreement")),
    Group("whole models on the card", "correctness", (STATIC,), ("agreement", "distillation")),
    Group("low VRAM", "correctness", (STATIC, "--lowvram"), ("half agreement", "distillation")),
    Group("no VRAM", "correctness", (STATIC, "--novram"), ("half agreement", "distillation")),
    Group(
        "speed",
        "speed",
        (STATIC,),
        ("joint sampling", "a step", "sound and colour", "compiled in channels last", "other batches compiled"),
    ),
    Group("speed with dynamic VRAM", "speed", ("--enable-dynamic-vram",), ("joint sampling",)),
)
DRY_RUN = (
    Group("dry run", "correctness", ("--cpu",), ("nodes", "distillation", "agreement", "a step", "joint sampling", "sound and colour")),
)
OPTIONS = ("--use-pytorch-cross-attention", "--disable-api-nodes")


class Process:
    """A group's worker, and the records that it has written so far."""

    def __init__(self, group: Group, folder: Path, until: float, tiny: bool, worker: Sequence[str]):
        self.group = group
        stem = group.name.replace(" ", "-")
        self.records, self.go, self._log = folder / f"{stem}.jsonl", folder / f"{stem}.go", folder / f"{stem}.log"
        waiting = ["--wait-for", str(self.go)] if group.kind == "speed" else []
        command = [*worker, "--parts", *group.parts, "--records", str(self.records), *waiting, "--until", str(until)]
        command += [*(["--tiny"] if tiny else []), "--", *OPTIONS, *group.options]
        self.records.touch()
        with self._log.open("wb") as log:
            threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", THREADS)}
            self.process = subprocess.Popen(command, cwd=REPO, stdout=log, stderr=subprocess.STDOUT, env=os.environ | threads)

    def found(self) -> list[Record]:
        """Whole lines only: the last one may be half written."""
        *lines, _ = self.records.read_text(encoding="utf-8").split("\n")
        records = [Record(**json.loads(line)) for line in lines]
        several = len(GROUPS) > 1
        return [Record(r.part, f"{self.group.name}: {r.name}" if several else r.name, r.state, r.values, r.note) for r in records]

    def begun(self) -> bool:
        return self.group.kind != "speed" or self.go.exists()

    def ended(self) -> bool:
        return self.process.poll() is not None

    def end(self, why: str) -> list[Record]:
        """Ends it if it runs, and says so, or with what it died."""
        if not self.ended():
            self.process.kill()
            self.process.wait()
        elif self.process.returncode == 0:
            return []
        else:
            why = f"exit status {self.process.returncode}"
        if not self.begun():
            return [Record("processes", f"{self.group.name}: not begun", SKIPPED, {}, why)]
        log = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        return [Record("processes", f"{self.group.name}: ended", FAILED, {}, "\n".join([*log, why]))]


class Check:
    """All processes of a run, and the report."""

    def __init__(self, output: Path, minutes: float, tiny: bool, worker: Sequence[str]):
        self.output, self.tiny, self.worker = output, tiny, worker
        self.began = time.time()
        self.until = self.began + 60 * minutes - MARGIN
        self.about: dict[str, Any] = {"minutes allowed": minutes}
        self.processes: list[Process] = []
        self.ends: list[Record] = []
        self._written: list[Record] | None = None

    def run(self, groups: Sequence[Group]) -> list[Record]:
        with TemporaryDirectory() as scratch:
            self.processes = [Process(group, Path(scratch), self.until, self.tiny, self.worker) for group in groups]
            try:
                together = [process for process in self.processes if process.group.kind != "speed"]
                alone = [process for process in self.processes if process.group.kind == "speed"]
                share = self.began + CORRECTNESS_SHARE * (self.until - self.began) if alone else self.until
                self._wait(together, share)
                for process in alone:
                    if self.until - time.time() > LEAST:
                        process.go.touch()
                    self._wait([process], self.until)
                return self._report()
            finally:
                for process in self.processes:
                    if not process.ended():
                        process.process.kill()
                        process.process.wait()

    def _wait(self, processes: Sequence[Process], until: float) -> None:
        while time.time() < until and any(process.begun() for process in processes) and not all(process.ended() for process in processes):
            self._report()
            time.sleep(0.5)
        for process in processes:
            self.ends += process.end(f"out of time after {time.time() - self.began:.0f} s")
        self._report()

    def _report(self) -> list[Record]:
        records = [record for process in self.processes for record in process.found()] + self.ends
        if records != self._written:
            self.about["seconds so far"] = round(time.time() - self.began, 1)
            write(self.output, self.about, records)
            self._written = records
        return records


def device() -> dict[str, Any]:
    """What the run was on."""
    lines = (
        "import torch, platform, json, os; cuda = torch.cuda.is_available();"
        "print(json.dumps({'card': torch.cuda.get_device_name() if cuda else 'none', 'memory, GiB':"
        " round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1) if cuda else 0, 'torch': torch.__version__,"
        " 'CUDA': torch.version.cuda, 'cuDNN': torch.backends.cudnn.version() if cuda else None, 'python': platform.python_version(),"
        " 'CPU cores': os.cpu_count(), 'tf32 at first': 'matmul %s, cudnn %s' %"
        " (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)}))"
    )
    answer = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=False)
    return json.loads(answer.stdout) if answer.returncode == 0 else {"device": answer.stderr.strip().splitlines()[-1:]}


def main(arguments: Sequence[str] | None = None, worker: Sequence[str] = (sys.executable, "-m", "lab.gpu.worker")) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of report.json and report.md")
    parser.add_argument("--minutes", type=float, default=8.0, help="at most; what has no time left is skipped or ended")
    parser.add_argument("--only", choices=("correctness", "speed"))
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, on the CPU, in one process")
    args = parser.parse_args(arguments)
    if not os.environ.get("COMFYUI_PATH"):
        parser.error("COMFYUI_PATH names no ComfyUI folder")
    args.output.mkdir(parents=True, exist_ok=True)
    groups = DRY_RUN if args.dry_run else [group for group in GROUPS if args.only in (None, group.kind)]
    check = Check(args.output, args.minutes, args.dry_run, worker)
    asked = Thread(target=lambda: check.about.update(device()))  # beside the others: it imports torch, too
    asked.start()
    records = check.run(groups)
    asked.join()
    write(args.output, check.about, records)
    print((args.output / "report.md").read_text(encoding="utf-8"))
    return int(any(record.state == FAILED for record in records))


if __name__ == "__main__":
    sys.exit(main())
