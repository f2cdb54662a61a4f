"""Markdown tables of records.

Rates (what the judges recognise) have Wilson's interval, means (scores, decibels) Student's, both of 95 %. How far a joint sample goes
"from wrong to right" is its share between the other modality alone (0 %) and its own modality alone (100 %), with a bootstrap over samples.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from ..intervals import bootstrap, mean, percent
from ..train import judge
from .records import Record
from .rows import TABLES, Row

QUESTIONS: dict[str, Callable[[Record], bool]] = {
    "picture": lambda record: record["picture"]["right"],
    "sound": lambda record: record["sound"]["right"],
    "both": lambda record: record["picture"]["right"] and record["sound"]["right"],
}
SCORES = {"clip": "CLIP", "clap": "CLAP", "cycle_db": "cycle, dB"}
ALONE = {"picture": ("audio", "image"), "sound": ("image", "audio")}  # the wrong single modality, and the right one
FEWEST = 5
"""Samples that are recognised, and that are not, for a figure of what tells them apart."""
JUDGES = Path(judge.__file__).with_name("judges.json")
PAPER = {
    "image": (34.5, 2.2),
    "audio": (22.5, 48.3),
    "imprint": (27.2, 32.3),
    "sds": (25.4, 23.4),
    "joint": (28.2, 33.5),
    "guidance-5": (28.0, 29.3),
    "guidance-7.5": (28.2, 31.9),
    "no-warm-start": (28.7, 30.8),
    "image-first": (29.0, 27.4),
    "warm-start-0.8": (27.4, 35.9),
}
"""CLIP and CLAP of the paper's Tables 1 and 3, by Stable Diffusion and Auffusion."""

Groups = dict[str, list[Record]]


def grouped(records: Iterable[Record], key: Callable[[Record], str]) -> Groups:
    groups = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return dict(groups)


def tables(records: list[Record], by_settings: bool = False, classes: bool = False) -> str:
    """All tables that the records have rows for; or one, with a line for each setting."""
    if by_settings:
        return "\n".join(table(grouped(records, lambda record: f"{record['row']}: {Row.of(record)}")))
    groups = grouped(records, lambda record: record["row"])
    listed = {name: [row for row in names if row in groups] for name, names in TABLES.items()}
    listed["others"] = [row for row in groups if not any(row in names for names in TABLES.values())]
    lines = []
    for name, names in listed.items():
        # the joint row alone stands in many tables, and tells something in one
        if names and (names != ["joint"] or name == "table-1"):
            lines += [f"**{name}**", "", *table({row: groups[row] for row in names}), ""]
    lines += from_wrong_to_right(groups)
    lines += agreement(groups)
    if answered(records, "picture"):
        lines += ceilings(json.loads(JUDGES.read_text()))
        lines += by_class(groups) if classes else []
    return "\n".join(lines)


def answered(group: list[Record], key: str) -> bool:
    """Whether all records hold an answer; part of them makes no figure."""
    return all(record.get(key) is not None for record in group)


def table(groups: Groups) -> list[str]:
    """A line a group: settings, number of samples, scores, shares recognised, and the paper's figures where it has them."""
    titles = ["row", "settings (guidance image / audio)", "n", *SCORES.values(), *(f"{question}, %" for question in QUESTIONS)]
    lines = [f"| {' | '.join([*titles, 'the paper: CLIP, CLAP'])} |", "|---" * (len(titles) + 1) + "|"]
    for name, group in groups.items():
        cells = [mean([record[key] for record in group]) if answered(group, key) else "-" for key in SCORES]
        judged = answered(group, "picture") and answered(group, "sound")
        cells += [percent(sum(map(asked, group)), len(group)) if judged else "-" for asked in QUESTIONS.values()]
        paper = ", ".join(f"{score:.1f}" for score in PAPER.get(name, ())) or "-"
        lines.append(f"| {name.partition(':')[0]} | {Row.of(group[0])} | {len(group)} | {' | '.join(cells)} | {paper} |")
    return lines


def from_wrong_to_right(groups: Groups) -> list[str]:
    """How far the rows of Table 1 that have both sides go between the single modalities."""
    lines = []
    for name, question in product(TABLES["table-1"], ALONE):
        singles = ALONE[question]
        three = [groups.get(row, []) for row in (*singles, name)]
        if name not in singles and all(rows and answered(rows, question) for rows in three):
            wrong, right, joint = (np.array([QUESTIONS[question](record) for record in rows], float) for rows in three)
            share, low, high = (100 * part for part in progress(wrong, right, joint))
            lines.append(f"- {name}, {question}: {share:.0f} % of the way from wrong to right ({low:.0f} to {high:.0f})")
    return lines


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


def agreement(groups: Groups) -> list[str]:
    """How well a score tells the samples that a judge recognises: the chance that one of them has more than one of the others (AUC)."""
    lines = []
    for name, group in groups.items():
        for score, question in (("clip", "picture"), ("clap", "sound")):
            if not (answered(group, score) and answered(group, question)):
                continue
            pairs = np.array([(record[score], QUESTIONS[question](record)) for record in group], float)
            if FEWEST <= pairs[:, 1].sum() <= len(pairs) - FEWEST:
                low, high = bootstrap(area_under_curve, pairs)
                chance = float(area_under_curve(pairs[None])[0])
                lines.append(
                    f"- {name}: {SCORES[score]} tells recognised {question}s from others at {chance:.2f} ({low:.2f} to {high:.2f})"
                )
    return lines


def area_under_curve(pairs: np.ndarray) -> np.ndarray:
    """(N,) areas under the receiver operating characteristic, of (N, samples, [score, 0 or 1]); 0.5 where all are alike."""
    ranks, right = rankdata(pairs[..., 0], axis=-1), pairs[..., 1]
    count, others = right.sum(axis=-1), (1 - right).sum(axis=-1)
    above = (ranks * right).sum(axis=-1) - count * (count + 1) / 2
    return np.where(count * others > 0, above / np.maximum(count * others, 1), 0.5)


def by_class(groups: Groups) -> list[str]:
    lines = []
    for name, group in groups.items():
        for key, question in (("image_class", "picture"), ("audio_class", "sound")):
            classes = grouped(group, lambda record, key=key: record[key])
            shares = {label: [QUESTIONS[question](record) for record in members] for label, members in classes.items()}
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
