"""The check for a machine with a graphics card: what it reports whatever happens, and all of its parts at tiny sizes on the CPU."""

from __future__ import annotations

import importlib
import json
import sys

import pytest

from lab import gpu_check
from lab.gpu.records import FAILED, HELD, MEASURED, SKIPPED, Record
from lab.gpu.scale import TINY
from lab.gpu_check import Group, main

WORKER = """
import json, sys, time
from pathlib import Path
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
go = sys.argv[sys.argv.index("--wait-for") + 1] if "--wait-for" in sys.argv else None
while go and not Path(go).exists():
    time.sleep(0.01)
part = sys.argv[sys.argv.index("--parts") + 1]
with open(sys.argv[sys.argv.index("--records") + 1], "a") as file:
    file.write(json.dumps({"part": part, "name": "one", "state": "held", "values": {"x": 1.5}, "note": ""}) + "\\n")
    file.write('{"part": "half a li')
print("last words")
if part == "hangs":
    time.sleep(60)
sys.exit(3 if part == "crashes" else 0)
"""


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Runs the check with a worker that does what its part is called; returns the exit status, the report and its text."""
    monkeypatch.setenv("COMFYUI_PATH", "/somewhere")
    monkeypatch.setattr(gpu_check, "device", dict)
    monkeypatch.setattr(gpu_check, "MARGIN", 0.0)
    monkeypatch.setattr(gpu_check, "LEAST", 0.0)
    script = tmp_path / "worker.py"
    script.write_text(WORKER)

    def run(*parts, seconds=20.0):
        groups = tuple(Group(f"group {part}", "speed" if part == "fast" else "correctness", (), (part,)) for part in parts)
        monkeypatch.setattr(gpu_check, "GROUPS", groups)
        status = main(["--output", str(tmp_path / "out"), "--minutes", str(seconds / 60)], [sys.executable, str(script)])
        files = [(tmp_path / "out" / name).read_text() for name in ("report.json", "report.md")]
        return status, [Record(**record) for record in json.loads(files[0])["records"]], files[1]

    return run


def test_parts_that_hold_are_reported_one_process_each_and_speed_comes_alone(check):
    status, records, text = check("good", "fast")
    assert status == 0 and [(record.name, record.state) for record in records] == [("group good: one", HELD), ("group fast: one", HELD)]
    assert "| group good: one | held | 1.5 |" in text


def test_a_part_that_crashes_or_hangs_takes_nothing_from_the_others(check):
    status, records, text = check("hangs", "crashes", "good", seconds=4.0)
    assert status == 1 and sum(record.state == HELD for record in records) == 3
    failed = {record.name: record.note for record in records if record.state == FAILED}
    assert failed.keys() == {"group hangs: ended", "group crashes: ended"}
    assert "out of time" in failed["group hangs: ended"] and "last words\nexit status 3" in failed["group crashes: ended"] in text


# The parts themselves


@pytest.fixture(scope="module")
def run_part(pack):
    worker = importlib.import_module("lab.gpu.worker")
    nodes = importlib.import_module("lab.gpu.comfyui").Pack()

    def run(*parts):
        records: list[Record] = []
        worker.run(parts, nodes, TINY, records.append, lambda: 1e9, lambda: None)
        assert [record.name for record in records if record.part == "parts"][-len(parts) :] == list(parts), records
        return [record for record in records if record.part != "parts"]

    return run


def test_every_node_runs_once(pack, run_part):
    records = run_part("nodes")
    assert not [record for record in records if record.state != HELD]
    assert len({record.name for record in records}) == len(importlib.import_module("lab.gpu.comfyui").Pack().nodes())


def test_the_guider_is_held_to_the_plain_loop_and_distillation_to_what_it_leaves(run_part):
    records = run_part("agreement", "distillation")
    assert not [record for record in records if record.state != HELD]
    assert [record.name for record in records if "guider" in record.part] == ["float32"]


def test_speed_is_measured_beside_the_plain_loop_and_the_floor(run_part):
    records = run_part("a step", "joint sampling", "sound and colour")
    assert {record.state for record in records} == {MEASURED, SKIPPED}, records
    joint = next(record.values for record in records if record.name == "joint guider, batch 2")
    assert joint["apart from the plain loop"] < 1e-4 and joint["times the floor"] > 0 and joint["plain loop over it"] > 0
    assert 0 < joint["times the unfused floor"] < joint["times the floor"] and len(joint["rounds, s"].split()) == 1
