"""What the keeper search would have kept of candidates that were all sampled to the end, and how early their end can be told.

Row "candidates" holds, for some prompt pairs, so many samples each (`--seeds`), with the scores of what each was foreseen to become every
few steps. From one such run every search is replayed: a rung looks at the latest scores that are recorded at or before its step. Quality
is what the judges say, who have no part in choosing. Intervals are bootstraps over prompt pairs, 95 %.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import ConstantInputWarning, spearmanr

from itsound_core.halving import Plan, plan
from itsound_core.ranking import top_shares

from ..intervals import bootstrap
from .chart import Point, chart
from .records import Record
from .rows import Row
from .tables import QUESTIONS, answered

QUALITIES = (*QUESTIONS, "clip", "clap", "place")
SHARES = (1 / 2, 1 / 3, 1 / 4)
"""Budgets that are tried, in shares of sampling all candidates."""


class Candidates:
    """Scores and qualities of N candidates of each of P prompt pairs.

    Raises ValueError for records without candidates or verdicts, and of pairs with different numbers of candidates or unlike settings.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        records = [record for record in records if "foreseen" in record]
        if not records or not answered(list(records), "picture"):
            raise ValueError("no record was foreseen and judged: `python -m tools.evaluate run candidates --seeds 16` makes some")
        pairs: dict[tuple[str, str], list[Record]] = {}
        for record in records:
            pairs.setdefault((record["image_prompt"], record["audio_prompt"]), []).append(record)
        sizes = {len(group) for group in pairs.values()}
        if len(sizes) > 1 or len({Row.of(record) for record in records}) > 1:
            raise ValueError(f"pairs of {min(sizes)} to {max(sizes)} candidates, or of unlike settings: let the run come to its end first")
        self.row, self.count = Row.of(records[0]), sizes.pop()
        self.steps = [*map(int, records[0]["foreseen"]), self.row.steps]
        self.scores = np.array([[[*r["foreseen"].values(), (r["clip"], r["clap"])] for r in group] for group in pairs.values()])
        """(P, N, steps, 2): picture and sound."""
        told = np.array([[_qualities(record) for record in group] for group in pairs.values()])
        self.quality = np.concatenate([told, self.places(self.row.steps)[..., None]], axis=2)
        """(P, N, QUALITIES). "place": among all of a pair by the scores at the end, 1 for the best."""

    def order(self, pair: int, step: int, among: np.ndarray) -> np.ndarray:
        """Candidates of a pair, best first by the latest scores at or before a step."""
        at = max(i for i, seen in enumerate(self.steps) if seen <= step)
        picture, sound = torch.from_numpy(self.scores[pair, among, at]).unbind(dim=1)
        return among[top_shares(picture, sound)]

    def places(self, step: int) -> np.ndarray:
        """(P, N): each candidate's place among all of its pair at a step, 1 for the best."""
        everyone = np.arange(self.count)
        return np.array([1 + self.order(pair, step, everyone).argsort() for pair in range(len(self.scores))])

    def search(self, keepers: int, budget: float) -> Plan:
        return plan(self.count, keepers, self.row.steps, budget, earliest=self.steps[0])

    def kept(self, pair: int, searched: Plan) -> np.ndarray:
        alive = np.arange(self.count)
        for rung in searched.rungs:
            alive = self.order(pair, rung.step, alive)[: rung.keep]
        return alive

    def evaluations(self, searched: Plan) -> float:
        """UNet evaluations of a search, in full samples: a step of the warm start takes one, any other two."""
        total, done, alive = 0, 0, self.count
        for step, keep in [*((rung.step, rung.keep) for rung in searched.rungs), (self.row.steps, 0)]:
            total += alive * (self._evaluated(step) - self._evaluated(done))
            done, alive = step, keep
        return total / self._evaluated(self.row.steps)

    def _evaluated(self, step: int) -> int:
        return step + max(0, step - (self.row.telling - 1)) * self.row.joint

    def correlation(self) -> dict[str, np.ndarray]:
        """Spearman's rank correlation of the scores at each step with those at the end, (P, steps), not a number where scores are equal."""
        places = np.stack([self.places(step) for step in self.steps], axis=-1)
        ranked = {"picture score": self.scores[..., 0], "sound score": self.scores[..., 1], "place in both": places}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConstantInputWarning)
            return {
                name: np.array([[spearmanr(pair[:, at], pair[:, -1])[0] for at in range(len(self.steps))] for pair in values])
                for name, values in ranked.items()
            }


def _qualities(record: Record) -> list[float]:
    return [*(100.0 * asked(record) for asked in QUESTIONS.values()), record["clip"], record["clap"]]


def report(candidates: Candidates, keepers: int) -> str:
    """Markdown: quality of the kept at several prices, and rank correlation by step."""
    pairs, count = len(candidates.scores), candidates.count
    everything = candidates.search(keepers, count)
    ways = {f"all {count}, ranked at the end": (candidates.evaluations(everything), _searched(candidates, everything))}
    for budget in [share * count for share in SHARES]:
        try:
            searched = candidates.search(keepers, budget)
        except ValueError:  # too little to see every candidate once
            continue
        ways[f"search among {count}, {budget:.1f} samples' steps"] = candidates.evaluations(searched), _searched(candidates, searched)
        if int(budget) >= keepers:
            ways[f"{int(budget)} only, ranked at the end"] = float(int(budget)), _blocks(candidates, keepers, int(budget))
    ways["unpicked"] = float(keepers), candidates.quality.mean(axis=1)

    of_all = ways[next(iter(ways))][1]
    titles = [*(f"{question}, %" for question in QUESTIONS), "CLIP", "CLAP", f"place among {count}"]
    lines = [
        f"{keepers} kept of {count} candidates, {pairs} prompt pairs, {candidates.row}; 95 % bootstrap over pairs.",
        "",
        f"| way | UNet evaluations, in samples | {' | '.join(titles)} | both, less that of all {count} |",
        "|---|---|" + "---|" * (len(QUALITIES) + 1),
    ]
    for name, (price, quality) in ways.items():
        cells = [_interval(quality[:, i], digits=int(asked == "place")) for i, asked in enumerate(QUALITIES)]
        apart = quality[:, QUALITIES.index("both")] - of_all[:, QUALITIES.index("both")]
        lines.append(f"| {name} | {price:.1f} | {' | '.join(cells)} | {_interval(apart)} |")
    correlation = candidates.correlation()
    lines += ["", f"Rank correlation with the end (Spearman), of {candidates.row.steps} steps:", ""]
    lines += [f"| step | {' | '.join(correlation)} |", "|---|" + "---|" * len(correlation)]
    for at, step in enumerate(candidates.steps[:-1]):
        lines.append(f"| {step} | {' | '.join(_interval(values[:, at], 2) for values in correlation.values())} |")
    return "\n".join(lines)


def curve(candidates: Candidates) -> str:
    """The same correlations as SVG."""
    series: dict[str, list[Point]] = {}
    for name, values in candidates.correlation().items():
        series[name] = []
        for step, at_step in zip(candidates.steps[:-1], values.T, strict=False):
            known = at_step[~np.isnan(at_step)]
            interval = bootstrap(_over_pairs, known) if len(known) > 1 else (known.mean(), known.mean())
            series[name].append(Point(step, known.mean(), (step, step), interval))
    return chart(series, f"steps done, of {candidates.row.steps}", "rank correlation with the end")


def _searched(candidates: Candidates, searched: Plan) -> np.ndarray:
    """(P, QUALITIES), means over the kept of each pair."""
    return np.array([quality[candidates.kept(pair, searched)].mean(axis=0) for pair, quality in enumerate(candidates.quality)])


def _blocks(candidates: Candidates, keepers: int, size: int) -> np.ndarray:
    """The same, when only so many are sampled and ranked at the end: the mean over as many disjoint choices as there are."""
    means = []
    for pair, quality in enumerate(candidates.quality):
        blocks = [np.arange(first, first + size) for first in range(0, candidates.count - size + 1, size)]
        kept = [candidates.order(pair, candidates.row.steps, block)[:keepers] for block in blocks]
        means.append(np.mean([quality[chosen].mean(axis=0) for chosen in kept], axis=0))
    return np.array(means)


def _over_pairs(drawn: np.ndarray) -> np.ndarray:
    return drawn.mean(axis=1)


def _interval(values: np.ndarray, digits: int = 0) -> str:
    known = values[~np.isnan(values)]
    low, high = bootstrap(_over_pairs, known)
    return f"{known.mean():.{digits}f} ({low:.{digits}f} to {high:.{digits}f})" if len(known) else "-"
