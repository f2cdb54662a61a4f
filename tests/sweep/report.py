"""The sweep's section of lab/RESULTS.md, made of the tasks' logs alone."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .log import read
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


def write(report: Path, state: Path, tasks: Sequence[tuple[str, str]]) -> int:
    """Put what these parts did into the section, in the place of what they did before; returns how many cases were faults.

    What the section holds beside them stays: parts that ran at another time, and what was written about what they found.
    """
    old = report.read_text(encoding="utf-8") if report.exists() else ""
    before, section, after = _cut(old)
    preamble, *blocks = section.split(PART)
    known = {block.partition("\n")[0].strip(): block.strip() for block in blocks}
    faults = 0
    for name in dict.fromkeys(name for name, _ in tasks):
        cases = [case for part_name, task in tasks if part_name == name for case in read(state / f"{name}.{task}.jsonl")]
        ran = _ran({task: state / f"{name}.{task}.done" for part_name, task in tasks if part_name == name})
        known[part(name).TITLE] = f"{part(name).TITLE}\n\n{ran}\n\n{_table(cases)}"
        faults += sum(case.get("kind", CRASH) in ALL_FAULTS for case in cases)
    titles = [part(name).TITLE for name in PARTS]
    ordered = [title for title in known if title not in titles] + [title for title in titles if title in known]
    text = "\n\n".join([preamble.strip() or f"{HEADING}\n\n{ABOUT}", *(f"### {known[title]}" for title in ordered)])
    report.write_text("\n\n".join(piece for piece in (before.rstrip(), text, after.strip()) if piece) + "\n", encoding="utf-8")
    return faults


def _ran(done: Mapping[str, Path]) -> str:
    """When, on which commits and for how long the tasks ran, and which did not, by the files that each left when it ended."""
    notes = {task: json.loads(file.read_text(encoding="utf-8")) for task, file in done.items() if file.exists()}
    times = Counter(f"{note['day']}, commit {note['commit']}" for note in notes.values())
    minutes = sum(note["seconds"] for note in notes.values()) / 60
    missing = ", ".join(task for task in done if task not in notes)
    on = "; ".join(f"{time}: {count} task{'s' if count > 1 else ''}" for time, count in times.items())
    return f"{on or 'Not run'}; {minutes:.0f} minutes.{f' Not run: {missing}.' if missing else ''}"


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
        counts[case["group"]][case.get("kind", CRASH)] += 1
        if case.get("kind", CRASH) in ALL_FAULTS:
            alike[case["group"], case.get("seen", "")].append(case)
    shown = [kind for kind in ALL_FAULTS if any(kind in of_group for of_group in counts.values())]
    lines = [f"| | cases | right | refused |{''.join(f' {kind} |' for kind in shown)}", f"|---|---|---|---|{'---|' * len(shown)}"]
    for group, of_group in [(group, counts[group]) for group in sorted(counts)] + [("**all**", sum(counts.values(), Counter()))]:
        numbers = [sum(of_group.values()), *(of_group[kind] for kind in (RESULT, REFUSAL, *shown))]
        lines.append(f"| {group} | {' | '.join(map(str, numbers))} |")
    lines += [""] if alike else []
    for (group, _), same in sorted(alike.items()):
        least = min(same, key=lambda case: len(case["case"]))
        lines.append(
            f"- {group}, {least.get('kind', CRASH)}, {len(same)} times: {least.get('text', '')[:SHOWN]} ({least.get('where', '')}) "
            f"`{least['case'][:SHOWN].replace('`', ' ')}`"
        )
    return "\n".join(lines)
