"""What a task did, JSON lines written as it goes: a crash loses nothing, and a case that never ends can be seen from outside."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from .oracle import RESULT, Outcome

LONGEST = 2000
"""Characters of a case, or of what came of it, that are kept."""


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or as it was before."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


class Log:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a", encoding="utf-8", buffering=1)  # kept open: who writes on after it was deleted spoils no other
        if self._file.tell():
            self._file.write("\n")  # who wrote before may have been killed within a line

    def _write(self, **entry: Any) -> None:
        self._file.write(json.dumps({key: _plain(value) for key, value in entry.items()}) + "\n")

    def begin(self, group: str, case: object) -> None:
        """A case begins; `group` is the row of the report that it counts in."""
        self._write(group=group, case=case)

    def end(self, outcome: Outcome) -> None:
        """What came of the case that began last."""
        self._write(kind=outcome.kind, text=outcome.text, where=outcome.where, seen="|".join(outcome.signature))

    @contextmanager
    def case(self, group: str, case: object) -> Iterator[list[Outcome]]:
        """A case whose outcome is put into the list that this gives; none there is a right result, and several faults are told as one."""
        self.begin(group, case)
        outcomes: list[Outcome] = []
        yield outcomes
        self.end(_together(outcomes))


def _together(outcomes: Sequence[Outcome]) -> Outcome:
    counted = [outcome for outcome in outcomes if outcome.is_fault] or outcomes or [Outcome(RESULT)]
    return replace(counted[0], text="; ".join(outcome.text for outcome in counted if outcome.text))


def _plain(value: object) -> str:
    return str(value).encode("ascii", "backslashreplace").decode()[:LONGEST]


def read(path: Path) -> Iterator[dict[str, str]]:
    """The cases of a log: group, case, and where it ended, kind, text and where; the last may have not. Half a line tells nothing."""
    case: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if "case" in entry:
            if case:
                yield case
            case = entry
        elif case:
            case |= entry
    if case:
        yield case
