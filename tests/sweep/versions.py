"""Part: other versions of ComfyUI. The suite's tests of nodes and servers, and every template at four steps, compared between versions."""

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
from launch.environment import COMFYUI_RELEASES, FLOOR, NEWEST, REPO, QuickstartError, cache_folder
from launch.server import Server

from .log import Log
from .oracle import RAW, SILENT, Outcome

TITLE = "Versions of ComfyUI"
LIMIT = 3600.0
STEPS = 4
TESTS = ("nodes", "comfyui")
EXPLAINED: dict[tuple[str, str], str] = {}
"""Of a template by its name and a version, why its files differ there from those of the newest."""


def tasks(hours: float) -> list[str]:
    """Templates first: what differs is seen there. Floor and newest are in the ordinary suite too."""
    between = [version for version in COMFYUI_RELEASES if version not in (NEWEST, FLOOR)]
    return [f"templates-{version}" for version in COMFYUI_RELEASES] + [f"tests-{version}-{room}" for version in between for room in TESTS]


def version(task: str) -> str:
    return task.split("-")[1]


def run(task: str, hours: float, log: Log) -> None:
    if task.startswith("templates"):
        templates(version(task), log)
    else:
        suite(version(task), task.split("-")[2], log)


def templates(of: str, log: Log) -> None:
    """Every template's files on a version; their digests are kept, and compared with the newest version's, whose task runs first."""
    from small_templates import embedded_twin, shortened

    kept = cache_folder() / "sweep" / "templates"
    kept.mkdir(parents=True, exist_ok=True)
    newest = json.loads((kept / f"{NEWEST}.json").read_text()) if of != NEWEST and (kept / f"{NEWEST}.json").exists() else {}
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
                    digests[path.stem] = [content_digest(file) for file in files]
                    before, now = newest.get(path.stem, digests[path.stem]), digests[path.stem]
                    if before != now and (path.stem, of) not in EXPLAINED:
                        outcomes.append(Outcome(SILENT, f"of {len(before)} and {len(now)} files some differ from those of {NEWEST}"))
    (kept / f"{of}.json").write_text(json.dumps(digests))


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
            content = b"".join(frame.to_ndarray().tobytes() for frame in video.decode(video=0))
    return hashlib.sha256(content).hexdigest()


def suite(of: str, room: str, log: Log) -> None:
    """The ordinary suite's tests of a room on a version."""
    marked = "not browser and not full and not sweep"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rfE",
        "-p",
        "no:cacheprovider",
        f"tests/{room}",
        "-m",
        marked,
    ]
    log.begin(of, f"tests/{room}")
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    failed = re.findall(r"^(?:FAILED|ERROR) (.+)$", done.stdout, re.MULTILINE)
    log.end(
        Outcome(
            "result" if done.returncode == 0 else RAW, done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-200:]
        )
    )
    for test in failed:
        log.begin(of, test)
        log.end(Outcome(RAW, "a test of the ordinary suite fails"))
