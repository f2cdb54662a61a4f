"""The sweep's section of lab/RESULTS.md, made of the tasks' logs alone."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .log import read, write_whole
from .oracle import FAULTS, REFUSAL, RESULT
from .parts import PARTS, part

HANG, CRASH = "hang", "crash"
ALL_FAULTS = (*FAULTS, HANG, CRASH)
HEADING = "## The standing sweep"
NEXT, PART = "\n## ", "\n### "
ABOUT = (
    "Every node with drawn inputs, damaged files, full disks, kills and cancels, other versions of ComfyUI and workflows of earlier "
    "releases (`python3 quickstart.py --test sweep`). A case is right where it gives a finite result of the right shape, or is refused "
    "by one error that names node, input and remedy before a model has worked."
)
SHOWN = 300
"""Characters of a case that the report shows."""


def summary(logs: Iterable[Path]) -> str:
    counts = Counter(case.get("kind", CRASH) for log in logs for case in read(log))
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common()) or "no case"


def finished(state: Path, name: str) -> dict[str, dict[str, Any]]:
    """What each task of a part left when it ended, by its name. A log without that is of a task that was stopped at work."""
    files = sorted(state.glob(f"{name}.*.done"))
    return {file.name.removeprefix(f"{name}.").removesuffix(".done"): json.loads(file.read_text(encoding="utf-8")) for file in files}


def faults(state: Path, tasks: Iterable[tuple[str, str]]) -> int:
    """How many cases of those of the tasks that have ended were faults."""
    logs = [state / f"{name}.{task}.jsonl" for name, task in tasks if (state / f"{name}.{task}.done").exists()]
    return sum(case.get("kind", CRASH) in ALL_FAULTS for log in logs for case in read(log))


def write(report: Path, state: Path, tasks: Sequence[tuple[str, str]]) -> None:
    """Put what these parts did into the section, in the place of what they did before: all their tasks that have ended, at any time.

    What the section holds beside them stays: parts that ran at another time, and what was written about what they found.
    """
    report = report.resolve()
    old = report.read_text(encoding="utf-8") if report.exists() else ""
    before, section, after = _cut(old)
    preamble, *blocks = section.split(PART)
    known = {block.partition("\n")[0].strip(): block.strip() for block in blocks}
    for name in dict.fromkeys(name for name, _ in tasks):
        title, notes = part(name).TITLE, finished(state, name)
        if title in known and not notes:
            continue
        cases = [case for task in notes for case in read(state / f"{name}.{task}.jsonl")]
        missing = [task for part_name, task in tasks if part_name == name and task not in notes]
        known[title] = f"{title}\n\n{_ran(notes, missing)}\n\n{_table(cases)}"
    titles = [part(name).TITLE for name in PARTS]
    ordered = [title for title in known if title not in titles] + [title for title in titles if title in known]
    text = "\n\n".join([preamble.strip() or f"{HEADING}\n\n{ABOUT}", *(f"### {known[title]}" for title in ordered)])
    write_whole(report, "\n\n".join(piece for piece in (before.rstrip(), text, after.strip()) if piece) + "\n")


def _ran(notes: Mapping[str, Mapping[str, Any]], missing: Sequence[str]) -> str:
    """When, on which commits and for how long the tasks ran, by their notes; which did not, and which not to their ends."""
    times = Counter(f"{note['day']}, commit {note['commit']}" for note in notes.values())
    minutes = sum(note["seconds"] for note in notes.values()) / 60
    on = "; ".join(f"{time}: {count} task{'s' if count > 1 else ''}" for time, count in times.items())
    broken_off = [task for task, note in notes.items() if note.get("broken_off")]
    lists = (("Not run", missing), ("Ended by a crash or a hang, and tried no further", broken_off))
    return f"{on or 'Not run'}; {minutes:.0f} minutes." + "".join(f" {what}: {', '.join(of)}." for what, of in lists if of)


def _cut(text: str) -> tuple[str, str, str]:
    """What stands before the section, the section, and what stands after it."""
    begin = text.find(HEADING)
    if begin < 0:
        return text, "", ""
    after = text.find(NEXT, begin + len(HEADING))
    return text[:begin], text[begin : after if after >= 0 else None], text[after:] if after >= 0 else ""


def _table(cases: Sequence[dict[str, str]]) -> str:
    """Rows of counts, and below them each kind of fault with its shortest case."""
    counts: dict[str, Counter] = defaultdict(Counter)
    alike: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for case in cases:
        counts[_line(case["group"])][case.get("kind", CRASH)] += 1
        if case.get("kind", CRASH) in ALL_FAULTS:
            alike[_line(case["group"]), case.get("seen", "")].append(case)
    shown = [kind for kind in ALL_FAULTS if any(kind in of_group for of_group in counts.values())]
    lines = [f"| | cases | right | refused |{''.join(f' {kind} |' for kind in shown)}", f"|---|---|---|---|{'---|' * len(shown)}"]
    for group, of_group in [(group, counts[group]) for group in sorted(counts)] + [("**all**", sum(counts.values(), Counter()))]:
        numbers = [sum(of_group.values()), *(of_group[kind] for kind in (RESULT, REFUSAL, *shown))]
        lines.append(f"| {group} | {' | '.join(map(str, numbers))} |")
    lines += [""] if alike else []
    for (group, _), same in sorted(alike.items()):
        least = min(same, key=lambda case: len(case["case"]))
        text, where, case = (_line(least.get(key, ""))[:SHOWN] for key in ("text", "where", "case"))
        lines.append(f"- {group}, {least.get('kind', CRASH)}, {len(same)} times: {text} ({where}) `{case.replace('`', ' ')}`")
    return "\n".join(lines)


def _line(text: str) -> str:
    """On one line: a new one could begin a section."""
    return text.replace("\r", "\\r").replace("\n", "\\n")
