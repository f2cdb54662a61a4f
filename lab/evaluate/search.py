"""What the keeper search would have kept of candidates that were all sampled in full, and how early their end can be told.

A run holds, for some prompt pairs, so many full samples each (`--seeds`), and looks at them from before their end: the rows of their drafts
("draft-20"), or the scores of what they were foreseen to become every few steps (row "candidates"). From one such run every search is
replayed. Quality is what the judges say, who have no part in choosing. Prices are UNet evaluations, in full samples. Intervals are
bootstraps over prompt pairs, 95 %.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import ConstantInputWarning, spearmanr

from itsound_core.drafts import Plan, plan
from itsound_core.ranking import top_shares

from ..intervals import bootstrap
from .records import Record
from .rows import Row
from .tables import QUESTIONS, answered

QUALITIES = (*QUESTIONS, "clip", "clap", "place")
SHARES = (1 / 2, 1 / 3, 1 / 4)
"""Budgets that are tried, in shares of sampling all candidates."""


@dataclass(frozen=True)
class Look:
    """All candidates, scored before their end."""

    kind: str
    """ "draft" or "x0"."""
    steps: int
    price: float
    scores: np.ndarray
    """(P, N, 2): picture and sound."""

    def __str__(self) -> str:
        return f"draft of {self.steps} steps" if self.kind == "draft" else f"x0 after {self.steps} steps"


class Candidates:
    """N full samples of each of P prompt pairs, and what was seen of them before.

    Raises ValueError for records without verdicts, for pairs with different numbers of candidates, and for drafts that lack some.
    """

    def __init__(self, row: Row, records: Sequence[Record], drafts: Mapping[Row, Sequence[Record]]) -> None:
        self.row, self.pairs = row, _by_pair(records)
        sizes = {len(group) for group in self.pairs}
        self.count = max(sizes)
        everything = [records, *drafts.values()]
        if len(sizes) > 1 or any([r["seed"] for r in some] != [r["seed"] for r in records] for some in everything):
            raise ValueError(f"{row}: drafts or candidates are missing, of {self.count} a pair. Let the run come to its end first.")
        if not all(answered(list(some), "picture") for some in everything):
            raise ValueError(f"{row}: there are no verdicts. `python -m lab.evaluate judge --judges FOLDER` asks the judges.")
        self.scores = _scores(self.pairs)
        self.drafts = {
            draft.steps: Look("draft", draft.steps, sum(draft.voters) / sum(row.voters), _scores(_by_pair(some)))
            for draft, some in sorted(drafts.items(), key=lambda item: item[0].steps)
        }
        self.foreseen = [
            Look("x0", int(step), sum(row.voters[: int(step)]) / sum(row.voters), _scores(self.pairs, step))
            for step in records[0]["foreseen"]
        ]
        self.quality = _quality(self.pairs, self.places(self.scores))
        """(P, N, QUALITIES). "place": among all of a pair by the scores at the end, 1 for the best."""
        self.draft_quality = {draft.steps: _quality(_by_pair(some)) for draft, some in drafts.items()}

    @property
    def looks(self) -> list[Look]:
        return [*self.foreseen, *self.drafts.values()]

    def places(self, scores: np.ndarray) -> np.ndarray:
        """(P, N): each candidate's place among all of its pair by the scores (P, N, 2), 1 for the best."""
        everyone = np.arange(self.count)
        return np.array([1 + order(of_pair, everyone).argsort() for of_pair in scores])

    def kept(self, pair: int, keepers: int, searched: Plan) -> np.ndarray:
        """Raises KeyError where the plan's drafts were not made."""
        finalists = np.arange(self.count)
        if searched.draft_steps:
            finalists = order(self.drafts[searched.draft_steps].scores[pair], finalists)[: searched.finalists]
        return order(self.scores[pair], finalists)[:keepers]

    def price(self, searched: Plan) -> float:
        drafted = self.count * self.drafts[searched.draft_steps].price if searched.draft_steps else 0.0
        return drafted + searched.finalists

    def correlation(self, look: Look) -> dict[str, np.ndarray]:
        """Spearman's rank correlation with the end, (P,), not a number where scores are equal."""
        ranked = {
            "picture score": (look.scores[..., 0], self.scores[..., 0]),
            "sound score": (look.scores[..., 1], self.scores[..., 1]),
            "place in both": (self.places(look.scores), self.places(self.scores)),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConstantInputWarning)
            return {
                name: np.array([spearmanr(*pair)[0] for pair in zip(before, end, strict=True)]) for name, (before, end) in ranked.items()
            }


def searches(records: Sequence[Record]) -> list[Candidates]:
    """The candidates of each row that was drafted or foreseen. Raises ValueError where there is none."""
    by_row: dict[Row, list[Record]] = defaultdict(list)
    for record in records:
        by_row[Row.of(record)].append(record)
    found = []
    for row, group in by_row.items():
        drafts = {
            draft: some
            for draft, some in by_row.items()
            if draft.draft_of == row.steps and replace(draft, steps=row.steps, solver=row.solver, draft_of=0) == row
        }
        if drafts or row.foresee:
            found.append(Candidates(row, group, drafts))
    if not found:
        raise ValueError("no sample was drafted or foreseen: `python -m lab.evaluate run search --seeds 16` makes some")
    return found


def order(scores: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Some candidates of a pair, best first by its scores (N, 2), as the search ranks them."""
    picture, sound = torch.from_numpy(scores[among]).unbind(dim=1)
    return among[top_shares(picture, sound)]


def _by_pair(records: Sequence[Record]) -> list[list[Record]]:
    pairs: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        pairs[record["image_prompt"], record["audio_prompt"]].append(record)
    return list(pairs.values())


def _scores(pairs: list[list[Record]], foreseen_at: str = "") -> np.ndarray:
    return np.array([[r["foreseen"][foreseen_at] if foreseen_at else (r["clip"], r["clap"]) for r in group] for group in pairs])


def _quality(pairs: list[list[Record]], places: np.ndarray | None = None) -> np.ndarray:
    values = np.array([[[*(100.0 * asked(r) for asked in QUESTIONS.values()), r["clip"], r["clap"]] for r in group] for group in pairs])
    places = np.full(values.shape[:2], np.nan) if places is None else places
    return np.concatenate([values, places[..., None]], axis=2)


def report(found: Sequence[Candidates], keepers: int) -> str:
    """Markdown: quality of the kept at several prices, and rank correlation of each look with the end."""
    lines = []
    for candidates in found:
        lines += [*_quality_table(candidates, keepers), ""] if candidates.drafts else []
    lines += ["Rank correlation with the end (Spearman):", ""]
    lines += ["| of | look | price, samples | picture score | sound score | place in both |", "|---|---|---|---|---|---|"]
    for candidates in found:
        for look in candidates.looks:
            cells = [_interval(values, 2) for values in candidates.correlation(look).values()]
            lines.append(f"| {candidates.row} | {look} | {look.price:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _plans(candidates: Candidates, keepers: int) -> dict[Plan, int]:
    """Searches, and how many full samples cost as much: the search's own plans at the SHARES, as far as their drafts were made, and
    every kind of draft with only the keepers in full, these beside no fewer than they cost.
    """
    count, steps = candidates.count, candidates.row.steps
    found = {}
    for share in SHARES:
        with suppress(ValueError):  # too little for drafts
            found[plan(count, keepers, steps, share * count)] = int(share * count)
    for searched in [Plan(count, steps, draft_steps, keepers) for draft_steps in reversed(candidates.drafts)]:
        if searched not in found:
            found[searched] = math.ceil(candidates.price(searched))
    return {searched: size for searched, size in found.items() if searched.draft_steps in candidates.drafts}


def _quality_table(candidates: Candidates, keepers: int) -> list[str]:
    count = candidates.count
    ways = {f"all {count}, ranked at the end": (float(count), _blocks(candidates, keepers, count))}
    compared = []
    for searched, size in _plans(candidates, keepers).items():
        kept = [candidates.kept(pair, keepers, searched) for pair in range(len(candidates.pairs))]
        way = f"{count} drafts of {searched.draft_steps} steps, {searched.finalists} of them in full"
        quality = _means(candidates.quality, kept)
        ways[way] = candidates.price(searched), quality
        if keepers <= size <= count:
            fewer, of_fewer = f"{size} only, ranked at the end", _blocks(candidates, keepers, size)
            ways[fewer] = float(size), of_fewer
            apart = {name: _interval((quality - of_fewer)[:, QUALITIES.index(name)], 1) for name in ("clip", "clap", "both", "place")}
            compared.append(f"- {way}, less {fewer}: {', '.join(f'{name} {value}' for name, value in apart.items())}")
    for steps, look in candidates.drafts.items():
        best = [order(scores, np.arange(count))[:keepers] for scores in look.scores]
        ways[f"{count} drafts of {steps} steps, kept as they are"] = count * look.price, _means(candidates.draft_quality[steps], best)
    ways["unpicked"] = float(keepers), candidates.quality.mean(axis=1)

    of_all = ways[next(iter(ways))][1]
    titles = [*(f"{question}, %" for question in QUESTIONS), "CLIP", "CLAP", f"place among {count}", "CLIP, less that of all"]
    titles += ["CLAP, less that of all", "both, less that of all"]
    lines = [
        f"{keepers} kept of {count} candidates, {len(candidates.pairs)} prompt pairs, {candidates.row}; 95 % bootstrap over pairs.",
        "",
        f"| way | price, samples | {' | '.join(titles)} |",
        "|---|---|" + "---|" * len(titles),
    ]
    for name, (price, quality) in ways.items():
        cells = [_interval(quality[:, i], digits=int(asked == "place")) for i, asked in enumerate(QUALITIES)]
        apart = [quality[:, i] - of_all[:, i] for i in map(QUALITIES.index, ("clip", "clap", "both"))]
        lines.append(f"| {name} | {price:.1f} | {' | '.join([*cells, *(_interval(values, 1) for values in apart)])} |")
    return [*lines, "", *compared]


def curve(found: Sequence[Candidates]) -> str:
    """Rank correlation by price, as SVG."""
    from .chart import Point, chart  # here, because only charts need matplotlib

    series: dict[str, list[Point]] = defaultdict(list)
    for candidates in found:
        for look in candidates.looks:
            correlation = candidates.correlation(look)
            for name in ("picture score", "sound score"):
                known = correlation[name][~np.isnan(correlation[name])]
                interval = bootstrap(_over_pairs, known) if len(known) > 1 else (known.mean(), known.mean())
                price = 100 * look.price
                series[f"{look.kind}, {name}"].append(Point(price, known.mean(), (price, price), interval))
    return chart(series, "UNet evaluations, % of a full sample's", "rank correlation with the end")


def _means(quality: np.ndarray, kept: Sequence[np.ndarray]) -> np.ndarray:
    """(P, QUALITIES), of (P, N, QUALITIES) over the kept of each pair."""
    return np.array([of_pair[chosen].mean(axis=0) for of_pair, chosen in zip(quality, kept, strict=True)])


def _blocks(candidates: Candidates, keepers: int, size: int) -> np.ndarray:
    """(P, QUALITIES), means over the kept, when only so many are sampled: the mean over as many disjoint choices as there are."""
    means = []
    for scores, quality in zip(candidates.scores, candidates.quality, strict=True):
        blocks = [np.arange(first, first + size) for first in range(0, candidates.count - size + 1, size)]
        means.append(np.mean([quality[order(scores, block)[:keepers]].mean(axis=0) for block in blocks], axis=0))
    return np.array(means)


def _over_pairs(drawn: np.ndarray) -> np.ndarray:
    return drawn.mean(axis=1)


def _interval(values: np.ndarray, digits: int = 0) -> str:
    known = values[~np.isnan(values)]
    if not len(known):
        return "-"
    low, high = bootstrap(_over_pairs, known)
    return f"{known.mean():.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
