"""What a task did, JSON lines written as it goes: a crash loses nothing, and a case that never ends can be seen from outside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .oracle import RESULT, Outcome

LONGEST = 2000
"""Characters of a case, or of what came of it, that are kept."""


class Log:
    def __init__(self, path: Path) -> None:
        self.path = path

    def _write(self, **entry: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({key: _plain(value) for key, value in entry.items()}) + "\n")

    def begin(self, group: str, case: object) -> None:
        """A case begins; `group` is the row of the report that it counts in."""
        self._write(group=group, case=case)

    def end(self, outcome: Outcome) -> None:
        """What came of the case that began last."""
        self._write(kind=outcome.kind, text=outcome.text, where=outcome.where, seen="|".join(outcome.signature))

    @contextmanager
    def case(self, group: str, case: object) -> Iterator[list[Outcome]]:
        """A case whose outcome is put into the list that this gives; none there is a right result."""
        self.begin(group, case)
        outcomes: list[Outcome] = []
        yield outcomes
        self.end(outcomes[0] if outcomes else Outcome(RESULT))


def _plain(value: object) -> str:
    return str(value).encode("ascii", "backslashreplace").decode()[:LONGEST]


def read(path: Path) -> Iterator[dict[str, str]]:
    """The cases of a log: group, case, and where it ended, kind, text and where; the last may have not."""
    case: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        entry = json.loads(line)
        if "case" in entry:
            if case:
                yield case
            case = entry
        else:
            case |= entry
    if case:
        yield case
