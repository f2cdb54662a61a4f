"""Servers and runs that are killed (SIGKILL) at work: what was kept is whole, and the same again goes on from it to the same end.

COMFYUI_PATH=... python -m tests.sweep.kills [NAME ...]        of save, sds, search, two and evaluate; all without a name
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile
import torch
from PIL import Image

from launch.environment import REPO, QuickstartError
from launch.server import Server
from tools.comfyui import temporary_server

from . import prompts

if TYPE_CHECKING:
    from .log import Log


LIMIT = 4 * 3600.0
TITLE = "Killed at work, and two at once"
TIMES = 5
SDS_SIZE, SEARCH_SIZE = 4, 3


def start(base: Path) -> Server:
    return Server(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), base, base / "output", options=("--cpu",))


def killed_after(server: Server, prompt: prompts.Prompt, moment: float, cancel_before: float | None = None) -> bool:
    """Queue a prompt, kill the server so many seconds later; True where it was still at work. `cancel_before`: seconds before, a cancel."""
    assert server._process
    process, at_work = server._process, [True]

    def kill() -> None:
        if cancel_before is not None:
            with contextlib.suppress(OSError):
                server.post("/interrupt", {})
            time.sleep(cancel_before)
        process.send_signal(signal.SIGKILL)

    timer = threading.Timer(moment, kill)
    timer.start()
    try:
        server.files_of(prompt)
        at_work[0] = False
    except (OSError, QuickstartError):
        pass
    timer.join()
    process.wait()
    return at_work[0]


def broken(folder: Path) -> list[str]:
    """Files that cannot be read to their end; what is named .part is none that anybody was promised."""
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            if path.suffix == ".png":
                with Image.open(path) as picture:
                    picture.load()
            elif path.suffix == ".flac":
                soundfile.read(path)
            elif path.suffix == ".pt":
                torch.load(path, weights_only=True)
        except Exception as error:
            found.append(f"{path.name}: {error}")
    return found


def alone(folder: Path) -> list[str]:
    """Names of pictures and sounds without the other of their pair."""
    names: dict[str, set[str]] = {}
    for path in (folder / "sweep").glob("*_.*"):
        names.setdefault(path.stem, set()).add(path.suffix)
    return sorted(stem for stem, kinds in names.items() if kinds in ({".png"}, {".flac"}))


def whole(prompt: prompts.Prompt) -> tuple[list[str], float]:
    """What a server makes that nobody disturbs, and its seconds."""
    with temporary_server() as server:
        began = time.monotonic()
        return [prompts.digest(path) for path in server.files_of(prompt)], time.monotonic() - began


def of_server(prompt: prompts.Prompt, times: int, seed: int, after_cancel: bool) -> list[str]:
    """Faults of a prompt whose server is killed `times` and then left alone."""
    chance, faults = random.Random(seed), []
    made, seconds = whole(prompt)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for number in range(times):
            server = start(base)
            with contextlib.suppress(ProcessLookupError), server:
                killed_after(server, prompt, chance.uniform(0.2, 0.9) * seconds, chance.uniform(0, 0.3) if after_cancel else None)
            faults += [f"kill {number}: {fault}" for fault in broken(base / "output")]
        with start(base) as server:
            again = [prompts.digest(path) for path in server.files_of(prompt)]
        faults += ["after the kills it made something else"] if again != made else []
        faults += [f"{name} has lost its pair" for name in alone(base / "output")]
    return faults


def sds(times: int, seed: int) -> list[str]:
    """Half of the kills come while a cancel is keeping the state."""
    prompt = prompts.sds(seed, SDS_SIZE, "killed")
    return [*of_server(prompt, times, seed, after_cancel=True), *of_server(prompt, times, seed + 1, after_cancel=False)]


def search(times: int, seed: int) -> list[str]:
    return of_server(prompts.search(seed, SEARCH_SIZE), times, seed, after_cancel=False)


SAVE = """
import sys, torch
from pathlib import Path
from tools.comfyui import import_comfyui, load_pack
import os, importlib, tempfile
import_comfyui(os.environ["COMFYUI_PATH"], ["--cpu"])
import nodes, folder_paths
folder_paths.set_output_directory(sys.argv[1])
pack = load_pack(Path(tempfile.mkdtemp(dir=sys.argv[2])))
node = importlib.import_module(pack.__name__ + ".nodes.saving").SaveImageThatSounds
picture = torch.rand(1, 256, 512, 3)
sound = {"waveform": torch.rand(1, 1, 512 * 160) - 0.5, "sample_rate": 16000}
print("ready", flush=True)
parent = os.getppid()
while os.getppid() == parent:  # who stops the sweep stops this too
    node.execute(picture, sound, "sweep/killed")
"""


def save(times: int, seed: int) -> list[str]:
    """A process that saves pair after pair is killed at any moment."""
    chance, faults, lost = random.Random(seed), [], 0
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "output")
        output.mkdir()
        for _ in range(times):
            command = [sys.executable, "-c", SAVE, str(output), folder]
            process = subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            assert process.stdout
            while process.stdout.readline() != b"ready\n":
                assert process.poll() is None, "it ended by itself"
            time.sleep(chance.uniform(0.05, 1.5))
            process.kill()
            process.wait()
        faults += broken(output)
        lost = len(alone(output))
        count = len(list(output.rglob("*.png")))
    # Two names cannot appear at one instant: at most the last pair of each process may be half there, each of its files whole.
    return faults + ([f"{lost} of {count} pictures without their sound after {times} kills"] if lost > times else [])


EVALUATE = ["-m", "lab.evaluate", "run", "joint", "--count", "6", "--steps", "2", "--workers", "1", "--output"]


def evaluate(times: int, seed: int) -> list[str]:
    """`lab.evaluate run`, killed with its workers, then run to its end."""

    def records_of(folder: Path) -> list[dict]:
        lines = (folder / "records.jsonl").read_text().splitlines()
        return [{key: value for key, value in json.loads(line).items() if "second" not in key} for line in lines]

    def command(folder: Path) -> subprocess.Popen[bytes]:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([sys.executable, *EVALUATE, str(folder)], cwd=REPO, start_new_session=True, **quiet)

    chance, faults = random.Random(seed), []
    with tempfile.TemporaryDirectory() as folder:
        unbroken, disturbed = Path(folder, "whole"), Path(folder, "killed")
        began = time.monotonic()
        if command(unbroken).wait():
            return ["the run failed by itself"]
        seconds = time.monotonic() - began
        for _ in range(times):
            process = command(disturbed)
            time.sleep(chance.uniform(0.3, 1.0) * seconds)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if command(disturbed).wait():
            faults.append("the run could not go on")
        key = json.dumps
        if sorted(map(key, records_of(unbroken))) != sorted(map(key, records_of(disturbed))):
            faults.append("its records are others than an unbroken run's")
        faults += broken(disturbed)
    return faults


def two(times: int, seed: int) -> list[str]:
    """Two clients at one server at the same time: each gets what it asked for."""
    wanted = [(kind, seed + number) for number in range(times) for kind in ("guider", "song", "spectrogram")]
    results: dict[tuple[str, int, int], list[str]] = {}
    with temporary_server() as server:
        alone_made = {}
        for kind, given in wanted:
            alone_made[kind, given] = [prompts.digest(path) for path in server.files_of(prompts.MAKERS[kind](given, 0))]

        def client(number: int) -> None:
            for kind, given in wanted[:: 1 if number else -1]:
                results[kind, given, number] = [prompts.digest(path) for path in server.files_of(prompts.MAKERS[kind](given, 0))]

        clients = [threading.Thread(target=client, args=(number,)) for number in (0, 1)]
        for one in clients:
            one.start()
        for one in clients:
            one.join()
    faults = [
        f"client {number} got another {kind}" for (kind, given, number), got in results.items() if got and got != alone_made[kind, given]
    ]
    return faults + ([f"{2 * len(wanted) - len(results)} runs gave nothing"] if len(results) < 2 * len(wanted) else [])


KINDS: dict[str, Callable[[int, int], list[str]]] = {function.__name__: function for function in (save, sds, search, two, evaluate)}


def tasks(hours: float) -> list[str]:
    return list(KINDS)


def run(task: str, hours: float, log: Log) -> None:
    from .oracle import SILENT, Outcome  # here, because by itself this runs without the sweep

    times = max(TIMES, int(TIMES * hours / 2))
    with log.case(task, f"{times} times") as outcomes:
        outcomes += [Outcome(SILENT, fault) for fault in KINDS[task](times, 1)]


if __name__ == "__main__":
    names = sys.argv[1:] or list(KINDS)
    if unknown := set(names) - set(KINDS):
        sys.exit(f"kills: {', '.join(sorted(unknown))} is none of {', '.join(KINDS)}")
    for name in names:
        began = time.monotonic()
        print(name, KINDS[name](TIMES, 1) or "nothing wrong", f"{time.monotonic() - began:.0f} s", flush=True)
