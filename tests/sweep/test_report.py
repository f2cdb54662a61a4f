"""The sweep's report: what is told of its tasks' logs, in the one section of a file that is its own."""

from __future__ import annotations

from pathlib import Path

from sweep import report
from sweep.log import Log, read
from sweep.oracle import RAW, REFUSAL, Outcome

TASKS = [("fuzz", "KeepBest"), ("fuzz", "TrimCanvas")]


def test_a_case_that_never_ended_and_each_fault_are_told_and_counted(tmp_path: Path) -> None:
    first, second = (Log(tmp_path / f"{part}.{task}.jsonl") for part, task in TASKS)
    for outcome in (Outcome(REFUSAL, "KeepBest: count is 0."), Outcome(RAW, "KeyError: 'x'", "nodes/scoring.py:1")):
        first.begin("KeepBest", {"count": 0})
        first.end(outcome)
    second.begin("TrimCanvas", {"columns": "\ud800"})
    results = tmp_path / "RESULTS.md"
    results.write_text(f"# Results\n\n{report.HEADING}\n\nof last time\n\n## More\n\nstays\n", encoding="utf-8")

    assert report.write(results, tmp_path, TASKS, TASKS[1:], 60.0) == 2

    text = results.read_text(encoding="utf-8")
    assert "of last time" not in text and text.startswith("# Results\n") and text.endswith("## More\n\nstays\n")
    assert "| KeepBest | 2 | 0 | 1 | 1 | 0 |" in text and "| TrimCanvas | 1 | 0 | 0 | 0 | 1 |" in text
    assert "KeyError: 'x' (nodes/scoring.py:1)" in text and "Not run: fuzz TrimCanvas." in text
    assert [case.get("kind") for case in read(second.path)] == [None]
