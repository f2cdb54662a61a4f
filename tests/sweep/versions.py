"""Part: other versions of ComfyUI. Every template at four steps on each, compared between versions, and the suite's tests.

The ordinary suite takes the newest and the floor whole. Here the versions between them run the tests of nodes, where what the pack uses of
ComfyUI is used one by one, and the templates in a real server; with more than two hours the server tests too, which are mostly templates
again, and the newest the tests of full-size models, which the ordinary suite leaves out. The browser tests, in each renderer on both front
ends, are ComfyUI's newest alone: a front end is no part of its version.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from launch import workflow
from launch.environment import COMFYUI_RELEASES, FLOOR, NEWEST, REPO, QuickstartError
from launch.server import Server

from .log import Log
from .oracle import RAW, RESULT, SILENT, Outcome

TITLE = "Versions of ComfyUI"
LIMIT = 3600.0
STEPS = 4
FAILED = 1
"""What pytest ends with where tests failed, which are told of one by one."""
WHOLE = 4.0
"""Hours from which the versions between run the server tests too, and the newest those of full-size models."""
BROWSER, FULL = f"browser-{NEWEST}", f"tests-{NEWEST}-full"
OLDER = ("0.18.2", "0.16.3")


class Explained(NamedTuple):
    """Why a template's files differ on an older ComfyUI, and the most by which they may."""

    reason: str
    most: float
    """Of any number of a picture, in levels of 255."""
    mean: float
    """Of a picture's numbers in the mean."""
    rms: float
    """Of a sound's samples, the root of the mean square, of full scale 1."""


BY_PILLOW = "core's LoadImage reads a photo by Pillow, later by PyAV: up to 3 of 255 levels"
FEATHERED = "core's FeatherMask puts the darkest step of the right and lower edge on the left and upper one"
EXPLAINED: dict[tuple[str, str], Explained] = {
    (template, version): explained
    for template, explained in {
        "05 Photo in a recording": Explained(BY_PILLOW, 3, 0.03, 2e-4),
        "06 Your logo loop": Explained(BY_PILLOW, 3, 0.2, 1e-3),
        "15 Inpaint a part": Explained(FEATHERED, 200, 1.0, 0.045),
    }.items()
    for version in OLDER
}
"""Of a template by its name and a version.

On both versions alike 05 differs by 1 level at most, 0.01 in the mean and 7.3e-5, 06 by 1, 0.09 and 4.7e-4, 15 by 143, 0.42 and 0.031, in a
sound of 0.065: an edge of its mask is another one, and Griffin-Lim finds other phases.
"""


def tasks(hours: float) -> list[str]:
    """Templates first: what differs is seen there."""
    rooms = ("nodes", "comfyui") if hours >= WHOLE else ("nodes",)
    between = [version for version in COMFYUI_RELEASES if version not in (NEWEST, FLOOR)]
    tests = [f"tests-{version}-{room}" for version in between for room in rooms]
    tests += [FULL] if hours >= WHOLE else []
    return [f"templates-{version}" for version in COMFYUI_RELEASES] + tests + [BROWSER]


def version(task: str) -> str:
    return task.split("-")[1]


def after(task: str) -> str:
    """The newest version's templates, which those of the others are compared with."""
    newest = f"templates-{NEWEST}"
    return newest if task.startswith("templates") and task != newest else ""


def run(task: str, hours: float, log: Log) -> None:
    if task.startswith("templates"):
        templates(version(task), log)
    elif task == BROWSER:
        suite(version(task), "comfyui", "browser", log)
    else:
        marked = "full" if task == FULL else "not browser and not full and not sweep"
        suite(version(task), task.split("-")[2], marked, log)


def templates(of: str, log: Log) -> None:
    """Every template's files on a version; their digests are kept, and compared with the newest version's: see `after`."""
    from small_templates import embedded_twin, shortened

    kept = log.path.parent
    of_newest = kept / f"templates-{NEWEST}.json"
    newest = json.loads(of_newest.read_text()) if of != NEWEST and of_newest.exists() else {}
    if of != NEWEST and not newest:
        with log.case(of, "what it is compared with") as outcomes:
            outcomes.append(Outcome(SILENT, f"nothing: templates-{NEWEST} has not run"))
    digests = {}
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        with Server(Path(sys.executable), Path(os.environ["COMFYUI_PATH"]), base, base / "output", options=("--cpu",)) as server:
            object_info = server.get("/object_info")
            for path in sorted((REPO / "workflows").glob("*.json")):
                with log.case(of, path.stem) as outcomes:
                    try:
                        prompt = shortened(workflow.to_prompt(workflow.load(path), object_info), STEPS)
                        files = server.files_of(embedded_twin(prompt, server))
                    except QuickstartError as error:
                        outcomes.append(Outcome(RAW, str(error)))
                        continue
                    now = digests[path.stem] = {
                        f"{number}{file.suffix}": content_digest(file) for number, file in enumerate(files, start=1)
                    }
                    kept_files = kept / "explained" / path.stem
                    if of == NEWEST and any(path.stem == template for template, _ in EXPLAINED):
                        _keep(files, kept_files)
                    before = newest.get(path.stem, now)
                    others = [name for name in before.keys() | now.keys() if before.get(name) != now.get(name)]
                    if others and (explained := EXPLAINED.get((path.stem, of))):
                        beyond = beyond_explained(explained, files, kept_files)
                        said = f"another picture than {NEWEST}'s: {explained.reason}"
                        outcomes += [Outcome(SILENT, fault) for fault in beyond] or [Outcome(RESULT, said)]
                    elif others:
                        outcomes.append(Outcome(SILENT, f"of {len(now)} files {', '.join(sorted(others))} differ from those of {NEWEST}"))
    (kept / f"templates-{of}.json").write_text(json.dumps(digests))


def _keep(files: Sequence[Path], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, file in enumerate(files, start=1):
        shutil.copy(file, folder / f"{number}{file.suffix}")


def beyond_explained(explained: Explained, files: Sequence[Path], newest: Path) -> list[str]:
    """What is beyond the bounds between these files and those of the newest version, kept in that folder, each by its number."""
    found = []
    for number, file in enumerate(files, start=1):
        other = newest / f"{number}{file.suffix}"
        if not other.exists():
            found.append(f"there is no {other.name} of {NEWEST}")
        elif file.suffix not in (".png", ".flac"):
            found += [f"{other.name} differs, which nothing explains"] if content_digest(file) != content_digest(other) else []
        else:
            bounds = (explained.most, explained.mean) if file.suffix == ".png" else (explained.rms,)
            by = differences(file, other)
            if not all(difference <= bound for difference, bound in zip(by, bounds, strict=True)):
                found.append(f"{other.name} differs by {by}, explained is {bounds}")
    missing = len(list(newest.glob("*"))) - len(files)
    return found + ([f"{missing} files fewer than on {NEWEST}"] if missing > 0 else [])


def differences(file: Path, other: Path) -> tuple[float, ...]:
    """Of two pictures the most and the mean, in levels of 255; of two sounds the root of the mean square. Infinite for two sizes."""
    import numpy as np
    import soundfile
    from PIL import Image

    if file.suffix == ".png":
        one, two = (np.asarray(Image.open(path)).astype(float) for path in (file, other))
        by = abs(one - two) if one.shape == two.shape else np.array(math.inf)
        return float(by.max()), float(by.mean())
    (one, rate), (two, other_rate) = (soundfile.read(path) for path in (file, other))
    return (float(((one - two) ** 2).mean() ** 0.5) if (one.shape, rate) == (two.shape, other_rate) else math.inf,)


def content_digest(file: Path) -> str:
    """Of a picture's pixels, of a sound's samples, and of a video's frames and samples; not of what is written beside them."""
    import av
    import numpy as np
    import soundfile
    from PIL import Image

    if file.suffix == ".png":
        content = np.asarray(Image.open(file)).tobytes()
    elif file.suffix == ".flac":
        content = soundfile.read(file, dtype="int32")[0].tobytes()
    else:
        with av.open(str(file)) as video:
            content = b"".join(frame.to_ndarray().tobytes() for frame in video.decode())
    return hashlib.sha256(content).hexdigest()


def suite(of: str, room: str, marked: str, log: Log) -> None:
    """The suite's tests of a room on a version, of those that are marked so."""
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", f"tests/{room}", "-m", marked]
    log.begin(of, f"tests/{room}, {marked}")
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    last = (done.stdout.strip() or done.stderr[-200:] or "it said nothing").splitlines()[-1]
    log.end(Outcome(RESULT if done.returncode in (0, FAILED) else RAW, last))
    tests = re.findall(r"^(tests/.+) (PASSED|FAILED|ERROR)", done.stdout, re.MULTILINE)
    if not tests:  # each was skipped, without a browser for one
        log.begin(of, f"tests/{room}, {marked}: that any ran")
        log.end(Outcome(SILENT, f"no test ran: {last}"))
    for test, came in tests:
        log.begin(of, test)
        log.end(Outcome(RESULT) if came == "PASSED" else Outcome(RAW, "a test of the ordinary suite fails"))
