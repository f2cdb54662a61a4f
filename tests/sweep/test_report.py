"""The sweep's report: what is told of its tasks' logs, in the one section of a file that is its own."""

from __future__ import annotations

import json
from pathlib import Path

from sweep import report
from sweep.log import Log, read
from sweep.oracle import RAW, REFUSAL, Outcome
from sweep.parts import part

TASKS = [("fuzz", "KeepBest"), ("fuzz", "TrimCanvas")]


def test_a_case_that_never_ended_and_each_fault_are_told_and_counted(tmp_path: Path) -> None:
    first, second = (Log(tmp_path / f"{part}.{task}.jsonl") for part, task in TASKS)
    for outcome in (Outcome(REFUSAL, "KeepBest: count is 0."), Outcome(RAW, "KeyError: 'x'", "nodes/scoring.py:1")):
        first.begin("KeepBest", {"count": 0})
        first.end(outcome)
    second.begin("TrimCanvas", {"columns": "\ud800"})
    results = tmp_path / "RESULTS.md"
    of_fuzz, of_damaged = part("fuzz").TITLE, part("damaged").TITLE
    section = f"what it is\n\n### What it found\n\nfour\n\n### {of_fuzz}\n\nof last time\n\n### {of_damaged}\n\nof a week ago\n"
    results.write_text(f"# Results\n\n{report.HEADING}\n\n{section}\n## More\n\nstays\n", encoding="utf-8")

    for task in ("KeepBest", "TrimCanvas"):
        note = {"day": "today", "commit": "abc", "seconds": 60, "broken_off": task == "TrimCanvas"}
        (tmp_path / f"fuzz.{task}.done").write_text(json.dumps(note), encoding="utf-8")

    report.write(results, tmp_path, [*TASKS, ("fuzz", "CutMasks")])
    assert report.faults(tmp_path, TASKS) == 2 and report.faults(tmp_path, TASKS[:1]) == 1

    text = results.read_text(encoding="utf-8")
    assert "of last time" not in text and text.startswith("# Results\n") and text.endswith("\n\n## More\n\nstays\n")
    for kept in ("what it is", "### What it found\n\nfour\n", f"### {of_damaged}\n\nof a week ago\n"):
        assert kept in text
    assert text.count(f"### {of_fuzz}\n\ntoday, commit abc: 2 tasks; 2 minutes. Not run: CutMasks. Ended by a crash") == 1
    assert "| KeepBest | 2 | 0 | 1 | 1 | 0 |" in text and "| TrimCanvas | 1 | 0 | 0 | 0 | 1 |" in text
    assert "KeyError: 'x' (nodes/scoring.py:1)" in text
    assert [case.get("kind") for case in read(second.path)] == [None]


def test_a_task_that_was_stopped_at_work_counts_for_nothing_and_leaves_what_was_known(tmp_path: Path) -> None:
    results = tmp_path / "RESULTS.md"
    known = f"{report.HEADING}\n\nwhat it is\n\n### {part('fuzz').TITLE}\n\nof last time\n"
    results.write_text(known, encoding="utf-8")
    Log(tmp_path / "fuzz.KeepBest.jsonl").begin("KeepBest", {"count": 0})

    report.write(results, tmp_path, TASKS)

    assert report.faults(tmp_path, TASKS) == 0
    assert results.read_text(encoding="utf-8") == known
