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


def of_server(prompt: prompts.Prompt, times: int, seed: int, after_cancel: bool, kept: str = "") -> list[str]:
    """Faults of a prompt whose server is killed `times` and then left alone.

    kept: the file, in the output folder, of a run that goes on when it is queued again.
    """
    chance, faults = random.Random(seed), []
    made, seconds = whole(prompt)
    at_work, halfway = 0, None
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for number in range(times):
            server = start(base)
            with contextlib.suppress(ProcessLookupError), server:
                moment = chance.uniform(0.2, 0.9) * seconds
                at_work += killed_after(server, prompt, moment, chance.uniform(0, 0.3) if after_cancel else None)
            faults += [f"kill {number}: {fault}" for fault in broken(base / "output")]
            halfway = _halfway(base / "output" / kept, prompt) or halfway if kept else None
        with start(base) as server:
            again = [prompts.digest(path) for path in server.files_of(prompt)]
            if halfway:
                server.files_of(prompts.other())  # ComfyUI keeps nothing of the run before
                torch.save(_at_its_end(halfway, prompt), base / "output" / kept)
                shown = [prompts.digest(path) for path in server.files_of(prompt)]
                faults += ["it began anew, and did not go on from what was kept"] if shown == made else []
        faults += [] if made else ["it makes nothing"]
        faults += [] if at_work else ["no kill came while it was at work"]
        faults += ["after the kills it made something else"] if again != made else []
        faults += ["no cancel has kept a run that was on its way"] if kept and after_cancel and not halfway else []
        faults += [f"{name} has lost its pair" for name in alone(base / "output")]
    return faults


def _halfway(file: Path, prompt: prompts.Prompt) -> dict | None:
    """What a run of score distillation has kept, where it has begun and is not at its end."""
    try:
        kept = torch.load(file, weights_only=True)
    except Exception:  # there is none, or it is damaged, which `broken` tells of
        return None
    return kept if 0 < kept["state"]["iteration"] < prompt["K"]["inputs"]["iterations"] else None


def _at_its_end(kept: dict, prompt: prompts.Prompt) -> dict:
    """The same, as if nothing were left to do: what goes on from it shows a canvas that no whole run ends with."""
    return kept | {"state": kept["state"] | {"iteration": prompt["K"]["inputs"]["iterations"]}}


def sds(times: int, seed: int) -> list[str]:
    """Half of the kills come while a cancel is keeping the state."""
    prompt, kept = prompts.sds(seed, SDS_SIZE, "killed"), "sds/killed.pt"
    return [
        *of_server(prompt, times, seed, after_cancel=True, kept=kept),
        *of_server(prompt, times, seed + 1, after_cancel=False, kept=kept),
    ]


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
    print("saved", flush=True)
"""


def save(times: int, seed: int) -> list[str]:
    """A process that saves pair after pair is killed at any moment."""
    chance, said = random.Random(seed), 0
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
            assert process.poll() is None, "it ended by itself"
            process.kill()
            said += process.stdout.read().count(b"saved\n")
            process.wait()
        faults, lost = broken(output), len(alone(output))
        pairs = len({path.stem for path in output.rglob("*_.*")}) - lost
    # Two names cannot appear at one instant: at most the last pair of each process may be half there, each of its files whole.
    faults += [f"{lost} pictures or sounds without the other of their pair after {times} kills"] if lost > times else []
    faults += [f"it said {said} times that a pair was saved, and {pairs} are there"] if pairs < said else []
    return faults + ([f"only {said} pairs were saved in {times} runs, so that nothing was tried"] if said < times else [])


EVALUATE = ["-m", "lab.evaluate", "run", "joint", "--count", "6", "--steps", "2", "--workers", "1", "--output"]


def evaluate(times: int, seed: int) -> list[str]:
    """`lab.evaluate run`, killed with its workers, then run to its end."""

    def lines_of(folder: Path) -> list[str]:
        file = folder / "records.jsonl"
        return file.read_text().splitlines() if file.exists() else []

    def records_of(folder: Path) -> list[dict]:
        return [{key: value for key, value in json.loads(line).items() if "second" not in key} for line in lines_of(folder)]

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
        for number in range(times):
            process = command(disturbed)
            time.sleep(chance.uniform(0.3, 1.0) * seconds)
            while number == times - 1 and not lines_of(disturbed) and process.poll() is None:
                time.sleep(0.05)  # the last comes when there is something to go on from
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        before = [line for line in lines_of(disturbed) if line.endswith("}")]
        if command(disturbed).wait():
            faults.append("the run could not go on")
        if not before or lines_of(disturbed)[: len(before)] != before:
            faults.append(f"it did not go on from the {len(before)} records that were there")
        key = json.dumps
        if not records_of(unbroken) or sorted(map(key, records_of(unbroken))) != sorted(map(key, records_of(disturbed))):
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
    faults = [f"{kind} made nothing" for (kind, _), made in alone_made.items() if not made]
    faults += [f"client {number} got another {kind}" for (kind, given, number), got in results.items() if got != alone_made[kind, given]]
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
