"""Part: other versions of ComfyUI. Every template at four steps on each, compared between versions, and the suite's tests.

The ordinary suite takes the newest and the floor whole. Here the versions between them run the tests of nodes, where what the pack uses of
ComfyUI is used one by one, and the templates in a real server; the server tests, which are mostly templates again, with more than two
hours. The browser tests, in each renderer on both front ends, are ComfyUI's newest alone: a front end is no part of its version.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

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
"""Hours from which the versions between run the server tests too."""
BROWSER = f"browser-{NEWEST}"
OLDER = ("0.18.2", "0.16.3")
BY_PILLOW = "core's LoadImage reads a photo by Pillow, later by PyAV: up to 3 of 255 levels"
FEATHERED = "core's FeatherMask puts the darkest step of the right and lower edge on the left and upper one"
EXPLAINED: dict[tuple[str, str], str] = {
    (template, version): reason
    for template, reason in {
        "05 Photo in a recording": BY_PILLOW,
        "06 Your logo loop": BY_PILLOW,
        "15 Inpaint a part": FEATHERED,
    }.items()
    for version in OLDER
}
"""Of a template by its name and a version, why its files differ there from those of the newest."""


def tasks(hours: float) -> list[str]:
    """Templates first: what differs is seen there."""
    rooms = ("nodes", "comfyui") if hours >= WHOLE else ("nodes",)
    between = [version for version in COMFYUI_RELEASES if version not in (NEWEST, FLOOR)]
    tests = [f"tests-{version}-{room}" for version in between for room in rooms]
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
        suite(version(task), task.split("-")[2], "not browser and not full and not sweep", log)


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
                    before = newest.get(path.stem, now)
                    others = [name for name in before.keys() | now.keys() if before.get(name) != now.get(name)]
                    if others and (reason := EXPLAINED.get((path.stem, of))):
                        outcomes.append(Outcome(RESULT, f"another picture than {NEWEST}'s: {reason}"))
                    elif others:
                        outcomes.append(Outcome(SILENT, f"of {len(now)} files {', '.join(sorted(others))} differ from those of {NEWEST}"))
    (kept / f"templates-{of}.json").write_text(json.dumps(digests))


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
    for test, came in re.findall(r"^(tests/.+) (PASSED|FAILED|ERROR)", done.stdout, re.MULTILINE):
        log.begin(of, test)
        log.end(Outcome(RESULT) if came == "PASSED" else Outcome(RAW, "a test of the ordinary suite fails"))
