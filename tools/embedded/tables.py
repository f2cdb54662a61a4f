"""Tables of what `measure.py` recorded, from the records alone.

    python tools/embedded/tables.py results/embedded                    # Markdown: recognised picture, sound, both, with 95 % intervals
    python tools/embedded/tables.py results/embedded --classes          # also each class by itself
    python tools/embedded/tables.py output/development --settings       # one line a setting instead of one a row

Intervals are Wilson's. How far a joint sample goes "from wrong to right" is its share between the other modality alone (0 %) and its own
modality alone (100 %); the interval of that ratio is a bootstrap over samples.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from math import sqrt
from pathlib import Path

import numpy as np

Record = dict
QUESTIONS: dict[str, Callable[[Record], bool]] = {
    "picture": lambda record: record["picture"]["right"],
    "sound": lambda record: record["sound"]["right"],
    "both": lambda record: record["picture"]["right"] and record["sound"]["right"],
}
ALONE = {"picture": ("audio", "image"), "sound": ("image", "audio")}  # the wrong single modality, and the right one
JUDGES = Path(__file__).with_name("judges.json")


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share, 95 % at z = 1.96. Raises ValueError for no trials."""
    if count < 1:
        raise ValueError("an interval needs at least one trial")
    share, spread = right / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = z * sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def percent(right: int, count: int) -> str:
    """A share with its interval, in %."""
    low, high = wilson(right, count)
    return f"{100 * right / count:.0f} ({100 * low:.0f} to {100 * high:.0f})"


def read(folder: Path) -> list[Record]:
    """The records of a folder, in the order of their samples. Raises FileNotFoundError if there are none."""
    path = folder / "records.jsonl"
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: measure.py writes it")
    return sorted(map(json.loads, path.read_text().splitlines()), key=lambda record: record["index"])


def grouped(records: list[Record], *keys: str) -> dict[tuple, list[Record]]:
    groups = defaultdict(list)
    for record in records:
        groups[tuple(record[key] for key in keys)].append(record)
    return dict(groups)


def progress(wrong: np.ndarray, right: np.ndarray, joint: np.ndarray, draws: int = 10_000) -> tuple[float, float, float]:
    """(joint - wrong) / (right - wrong) of the means of three 0/1 arrays, and its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)
    means = []  # of each array: its own, then those of its bootstrap draws
    for answers in (wrong, right, joint):
        drawn = answers[rng.integers(len(answers), size=(draws, len(answers)))].mean(axis=1)
        means.append(np.concatenate([[answers.mean()], drawn]))
    share, *drawn = (means[2] - means[0]) / np.maximum(means[1] - means[0], 1e-9)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(share), float(low), float(high)


def table(groups: dict[tuple, list[Record]]) -> list[str]:
    """One line a group: its settings, then the share of samples recognised."""
    lines = ["| row | steps | guidance (image, audio) | n | picture, % | sound, % | both, % |", "|---|---|---|---|---|---|---|"]
    for group in groups.values():
        first = group[0]
        guidance = ", ".join("none" if first[key] is None else f"{first[key]:g}" for key in ("image_guidance", "audio_guidance"))
        shares = " | ".join(percent(sum(map(asked, group)), len(group)) for asked in QUESTIONS.values())
        lines.append(f"| {first['row']} | {first['steps']} | {guidance} | {len(group)} | {shares} |")
    return lines


def from_wrong_to_right(groups: dict[tuple, list[Record]]) -> list[str]:
    """How far the rows that have both sides go between the single modalities."""
    lines = []
    for (name,), group in groups.items():
        if name in ("image", "audio") or any((single,) not in groups for single in ("image", "audio")):
            continue
        for question, singles in ALONE.items():
            wrong, right, joint = (
                np.array([QUESTIONS[question](record) for record in rows], float)
                for rows in (*(groups[single,] for single in singles), group)
            )
            share, low, high = progress(wrong, right, joint)
            lines.append(f"- {name}, {question}: {100 * share:.0f} % of the way from wrong to right ({100 * low:.0f} to {100 * high:.0f})")
    return lines


def by_class(groups: dict[tuple, list[Record]]) -> list[str]:
    lines = []
    for (name,), group in groups.items():
        for key, question in (("image_class", "picture"), ("audio_class", "sound")):
            shares = {label: [QUESTIONS[question](r) for r in members] for (label,), members in grouped(group, key).items()}
            ordered = sorted(shares.items(), key=lambda item: -sum(item[1]) / len(item[1]))
            lines.append(f"- {name}, {question}: " + ", ".join(f"{label} {sum(a)}/{len(a)}" for label, a in ordered))
    return lines


def ceilings(judges: dict) -> list[str]:
    """What the judges recognise of real canvases and clips: no sample can be expected to do better."""
    lines = []
    for side, sets in judges["accuracy"].items():
        shown = [f"{name} {percent(round(real['accuracy'] * real['n']), real['n'])} of {real['n']}" for name, real in sets.items()]
        lines.append(f"- the {side} judge on real data, %: " + "; ".join(shown))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--settings", action="store_true", help="group by settings, not by row")
    parser.add_argument("--classes", action="store_true")
    args = parser.parse_args()

    records = read(args.folder)
    if args.settings:
        print("\n".join(table(grouped(records, "row", "steps", "image_guidance", "audio_guidance"))))
        return
    groups = grouped(records, "row")
    print("\n".join([*table(groups), "", *from_wrong_to_right(groups), *ceilings(json.loads(JUDGES.read_text()))]))
    if args.classes:
        print("\n".join(["", *by_class(groups)]))


if __name__ == "__main__":
    main()
