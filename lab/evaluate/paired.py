"""Rows against one row, sample by sample: which of two is better, told by far fewer samples than their two means need.

Sample k of every row has the same prompts and the same noise, so what a prompt or a seed makes easy or hard falls out of the difference.
"""

from __future__ import annotations

from collections.abc import Callable

from ..intervals import mean
from .records import Record, record_of_sample
from .tables import PAPER, QUESTIONS, SCORES, answered, grouped

Pairs = list[tuple[Record, Record]]


def against(records: list[Record], name: str) -> list[str]:
    """Markdown, a line for each row that shares samples with the row `name`: mean of row less `name`, with Student's 95 % interval.

    Raises ValueError where no row does.
    """
    groups = grouped(records, lambda record: record["row"])
    there = {_sample(record): record for record in groups.get(name, [])}
    titles = [f"row, less {name}", "n", *SCORES.values(), *(f"{question}, points" for question in QUESTIONS)]
    titles += [f"both: it alone, {name} alone", "the paper: CLIP, CLAP"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row, group in groups.items():
        pairs = [(record, there[_sample(record)]) for record in group if _sample(record) in there]
        if pairs and row != name:
            lines.append(f"| {' | '.join([row, str(len(pairs)), *_differences(pairs), _published(row, name)])} |")
    if len(lines) == 2:
        raise ValueError(f"no row shares samples with the row {name!r}; there are {', '.join(sorted(groups))}.")
    return lines


def _sample(record: Record) -> tuple:
    return tuple(record_of_sample(record).values())


def _differences(pairs: Pairs) -> list[str]:
    everything = [record for pair in pairs for record in pair]
    cells = [_difference(pairs, lambda record, key=key: record[key]) if answered(everything, key) else "-" for key in SCORES]
    if not (answered(everything, "picture") and answered(everything, "sound")):
        return cells + ["-"] * (len(QUESTIONS) + 1)
    cells += [_difference(pairs, lambda record, asked=asked: 100.0 * asked(record)) for asked in QUESTIONS.values()]
    won = [QUESTIONS["both"](here) - QUESTIONS["both"](there) for here, there in pairs]
    return [*cells, f"{won.count(1)}, {won.count(-1)}"]


def _difference(pairs: Pairs, value: Callable[[Record], float]) -> str:
    return mean([value(here) - value(there) for here, there in pairs])


def _published(row: str, name: str) -> str:
    if row not in PAPER or name not in PAPER:
        return "-"
    return ", ".join(f"{here - there:+.1f}" for here, there in zip(PAPER[row], PAPER[name], strict=True))
