"""What parts with servers count as wrong: a cancel that blocks, a difference that nothing explains, an error that helps nobody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from sweep.cancels import ALL, BLOCKED, Stop, faults
from sweep.disks import badly_said
from sweep.log import Log, read
from sweep.oracle import RESULT
from sweep.versions import Explained, beyond_explained, suite

INPUTS = {"SaveImageThatSounds": ["output", "image", "audio", "filename_prefix"]}


def test_a_cancel_that_waits_without_the_processor_is_late_on_a_busy_machine_too():
    busy = Stop("guider", 0.1, seconds=BLOCKED + 1, own=0.0, load=6.0)
    assert faults([busy]) and not faults([Stop("guider", 0.1, seconds=BLOCKED - 1, own=0.1, load=6.0)])
    assert faults([Stop("guider", 0.1, seconds=ALL + 1, own=0.1, load=0.5)])


def test_every_late_cancel_is_told_of():
    stops = [Stop(kind, 0.1, seconds=BLOCKED + 1, own=0.0, load=6.0) for kind in ("guider", "sds")]
    assert [kind for kind in ("guider", "sds") if any(kind in fault for fault in faults(stops))] == ["guider", "sds"]


@pytest.mark.parametrize(("levels", "louder", "wrong"), [(3, 0.01, 0), (4, 0.01, 1), (3, 0.03, 1), (4, 0.03, 2)])
def test_what_is_explained_is_so_up_to_its_bound(tmp_path: Path, levels: int, louder: float, wrong: int):
    for name, gray, level in (("newest", 100, 0.1), ("older", 100 + levels, 0.1 + louder)):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((4, 4), gray, np.uint8)).save(tmp_path / name / "1.png")
        soundfile.write(tmp_path / name / "2.flac", np.full(100, level), 16000)
    files = sorted((tmp_path / "older").iterdir())
    assert len(beyond_explained(Explained("why", 3, 3, 0.02), files, tmp_path / "newest")) == wrong
    assert beyond_explained(Explained("why", 3, 3, 0.02), files[:1], tmp_path / "newest")[-1].startswith("1 files fewer")


def test_tests_that_are_all_skipped_are_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import subprocess

    for said, right in (("tests/x.py::test_a SKIPPED\n=== 1 skipped ===", False), ("tests/x.py::test_a PASSED\n=== 1 passed ===", True)):
        done = subprocess.CompletedProcess([], 0, said, "")
        monkeypatch.setattr(subprocess, "run", lambda *_, done=done, **__: done)
        log = tmp_path / f"{right}.jsonl"
        suite("0.30.0", "comfyui", "browser", Log(log))
        assert all(case["kind"] == RESULT for case in read(log)) is right


@pytest.mark.parametrize(
    ("error", "right"),
    [
        ("SaveImageThatSounds failed: SaveImageThatSounds: image and audio cannot be written (No space). Make room on the disk.", True),
        ("SaveImageThatSounds failed: SaveImageThatSounds: cannot write to output/sweep (No space). Make room on the disk.", True),
        ("SaveImageThatSounds failed: [Errno 28] No space left on device. Make room", False),
        ("SaveImageThatSounds failed: SaveImageThatSounds: image cannot be written.", False),
        ("Make room", False),
    ],
)
def test_a_disks_error_names_node_input_and_remedy(error: str, right: bool):
    assert (not badly_said(error, INPUTS)) is right
