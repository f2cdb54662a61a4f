"""The sweep's section of lab/RESULTS.md, made of the tasks' logs alone."""

from __future__ import annotations

import platform
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from .log import read
from .oracle import FAULTS, REFUSAL, RESULT
from .parts import part

HANG, CRASH = "hang", "crash"
ALL_FAULTS = (*FAULTS, HANG, CRASH)
HEADING = "## The standing sweep"
NEXT = "\n## "
SHOWN = 300
"""Characters of a case that the report shows."""


def summary(logs: Iterable[Path]) -> str:
    counts = Counter(case.get("kind", CRASH) for log in logs for case in read(log))
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common()) or "no case"


def write(report: Path, state: Path, tasks: Sequence[tuple[str, str]], left: Sequence[tuple[str, str]], seconds: float) -> int:
    """Put the section into the file, in the place of an earlier one or at its end; returns how many cases were faults."""
    parts = list(dict.fromkeys(name for name, _ in tasks))
    text, faults = [HEADING, ""], 0
    done = len(tasks) - len(left)
    text += [
        "Every node with drawn inputs, damaged files, other versions of ComfyUI and workflows of earlier releases "
        f"(`python3 quickstart.py --test sweep`; {done} of {len(tasks)} tasks, {seconds / 60:.0f} minutes, {platform.python_version()} on "
        f"{platform.machine()}). A case is right where it gives a finite result of the right shape, or is refused by one error that names "
        "node, input and remedy before a model has worked.",
        "",
    ]
    for name in parts:
        cases = [case for part_name, task in tasks if part_name == name for case in read(state / f"{name}.{task}.jsonl")]
        counts: dict[str, Counter] = defaultdict(Counter)
        for case in cases:
            counts[case["group"]][case.get("kind", CRASH)] += 1
        shown = [kind for kind in ALL_FAULTS if any(kind in of_group for of_group in counts.values())]
        text += [
            f"### {part(name).TITLE}",
            "",
            f"| | cases | right | refused |{''.join(f' {kind} |' for kind in shown)}",
            f"|---|---|---|---|{'---|' * len(shown)}",
        ]
        rows = [(group, counts[group]) for group in sorted(counts)] + [("**all**", sum(counts.values(), Counter()))]
        for group, of_group in rows:
            numbers = [sum(of_group.values()), *(of_group[kind] for kind in (RESULT, REFUSAL, *shown))]
            text.append(f"| {group} | {' | '.join(map(str, numbers))} |")
        text.append("")
        wrong = [case for case in cases if case.get("kind", CRASH) in ALL_FAULTS]
        faults += len(wrong)
        alike: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
        for case in wrong:
            alike[case["group"], case.get("seen", "")].append(case)
        for (group, _), same in sorted(alike.items()):
            least = min(same, key=lambda case: len(case["case"]))
            text.append(
                f"- {group}, {least.get('kind', CRASH)}, {len(same)} times: {least.get('text', '')[:SHOWN]} ({least.get('where', '')}) "
                f"`{least['case'][:SHOWN].replace('`', ' ')}`"
            )
        text += [""] if wrong else []
    if left:
        text += [f"Not run: {', '.join(f'{name} {task}' for name, task in left)}.", ""]
    section = "\n".join(text)
    old = report.read_text(encoding="utf-8") if report.exists() else ""
    begin = old.find(HEADING)
    if begin < 0:
        new = f"{old.rstrip()}\n\n{section}" if old else section
    else:
        after = old.find(NEXT, begin + len(HEADING))
        new = old[:begin] + section + (old[after:] if after >= 0 else "")
    report.write_text(new.rstrip() + "\n", encoding="utf-8")
    return faults
