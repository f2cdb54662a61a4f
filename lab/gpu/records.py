"""What a part of the GPU check found, and the two files it is written to: report.json, and report.md to read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FAILED, SKIPPED, HELD, MEASURED = "failed", "skipped", "held", "measured"


@dataclass(frozen=True)
class Record:
    """One line of the report. `values` are numbers and words of the finding, `note` is a reason or the end of a traceback."""

    part: str
    name: str
    state: str
    """HELD or FAILED for what has a right answer, MEASURED for what has not, SKIPPED with its reason in `note`."""
    values: dict[str, Any] = field(default_factory=dict)
    note: str = ""


def write(folder: Path, about: dict[str, Any], records: Sequence[Record]) -> None:
    """Both files anew, each by a rename: whoever ends the run in between finds the last whole ones."""
    data = {"about": about, "records": [asdict(record) for record in records]}
    for name, text in (("report.json", json.dumps(data, indent=1)), ("report.md", markdown(about, records))):
        unfinished = folder / f".{name}"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(folder / name)


def markdown(about: dict[str, Any], records: Sequence[Record]) -> str:
    """A table a part, with a column for every value that its records have, and what failed in full below."""
    count = {state: sum(record.state == state for record in records) for state in (HELD, FAILED, MEASURED, SKIPPED)}
    lines = ["# GPU check", "", ", ".join(f"{number} {state}" for state, number in count.items()), ""]
    lines += [f"- {key}: {value}" for key, value in about.items()]
    for part in dict.fromkeys(record.part for record in records):
        rows = [record for record in records if record.part == part]
        columns = list(dict.fromkeys(key for row in rows for key in row.values))
        lines += ["", f"## {part}", "", "| | state | " + "".join(f"{column} | " for column in columns) + "note |"]
        lines.append("| --- " * (len(columns) + 3) + "|")
        for row in rows:
            cells = [_cell(row.values.get(column, "")) for column in columns]
            note = row.note.strip().splitlines()[-1][:200] if row.note.strip() else ""
            lines.append(" | ".join(["| " + row.name, row.state, *cells, note.replace("|", "/") + " |"]))
    for row in (record for record in records if record.state == FAILED and "\n" in record.note.strip()):
        lines += ["", f"### {row.part}: {row.name}", "", "```", row.note.strip(), "```"]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
