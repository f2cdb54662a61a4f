"""The plan of a keeper search: every candidate is drafted, and only those with promising drafts are sampled in full.

A draft is a sample of the same noise by a multistep solver, in a few steps of the same schedule. It comes close to what the full sample
will be, where an x0 estimate from the first steps of the full sample, for the same price, does not yet.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

MOST = 20
"""Steps beyond which a draft tells little more: what a budget has left samples more candidates in full."""
LEAST = 8
"""Steps below which a draft tells little."""
SHORT = 40
"""Samples of fewer steps are not drafted: at 25, full samples for the price of drafts of 8 or 12 steps are better (lab/RESULTS.md)."""


def draft_levels(steps: int, draft_steps: int, onsets: Collection[int] = ()) -> list[int]:
    """Which of a schedule's 0..steps noise levels a draft of so many steps takes: evenly from the first to the last, and every onset.

    onsets: levels at which a model begins to take part, as after a warm start; a draft that passes over one becomes another sample. Each
    takes the place of the nearest one. Raises ValueError when draft_steps is not in 1 .. steps, or too few for the onsets.
    """
    if not 1 <= draft_steps <= steps:
        raise ValueError(f"a draft of {steps} steps takes 1 to {steps} of them, not {draft_steps}.")
    levels = [round(i * steps / draft_steps) for i in range(draft_steps + 1)]
    free = set(range(1, draft_steps)) - {levels.index(onset) for onset in onsets if onset in levels}
    for onset in sorted(set(onsets) - set(levels)):
        if not free:
            raise ValueError(f"a draft of {draft_steps} steps is too short: models begin to take part after {sorted(onsets)} of {steps}.")
        nearest = min(free, key=lambda i: abs(levels[i] - onset))
        levels[nearest] = onset
        free.remove(nearest)
    return sorted(levels)


@dataclass(frozen=True)
class Plan:
    """A search among `candidates`: each is drafted in `draft_steps`, and the best `finalists` are sampled in `steps`.

    draft_steps is 0 where all are finalists.
    """

    candidates: int
    steps: int
    draft_steps: int
    finalists: int

    @property
    def cost(self) -> int:
        """Steps of single samples in all."""
        return self.candidates * self.draft_steps + self.finalists * self.steps


def plan(candidates: int, keepers: int, steps: int, budget: float, fewest: int = 1) -> Plan:
    """The plan with the longest drafts of up to MOST steps that the budget allows, and as many finalists as it then has left.

    budget: full samples' worth of steps. fewest: steps that a draft must have for all its onsets. With the budget of all candidates there
    are no drafts, nor of SHORT samples: of these so many candidates as the budget allows are sampled in full, the others not at all.
    Raises ValueError for impossible numbers, and where the budget is too small, with the smallest that would do.
    """
    if not 1 <= keepers <= candidates:
        raise ValueError(
            f"{keepers} keepers of {candidates} candidates: keep at least 1 and at most all. Lower keepers, or raise candidates."
        )
    if budget >= candidates:
        return Plan(candidates, steps, 0, candidates)
    if steps < SHORT:
        sampled = math.floor(budget)
        if sampled < keepers:
            raise ValueError(
                f"a budget of {budget:g} is too small for {keepers} keepers: samples of {steps} steps, fewer than {SHORT}, are made in "
                f"full, for drafts of them tell too little. Give a budget of {keepers} or more, better of as many as there are candidates."
            )
        return Plan(sampled, steps, 0, sampled)
    least = max(fewest, LEAST)
    affordable = math.floor(budget * steps)
    draft_steps = min(max(MOST, least), (affordable - keepers * steps) // candidates)
    if draft_steps < least:
        smallest = min(candidates, math.ceil(10 * (keepers + candidates * least / steps)) / 10)
        raise ValueError(
            f"a budget of {budget:g} full samples is too small to choose {keepers} of {candidates} candidates at {steps} steps by drafts "
            f"of {least} steps: {smallest:g} or more are needed, or fewer candidates. Change one of the two."
        )
    return Plan(candidates, steps, draft_steps, min(candidates, (affordable - candidates * draft_steps) // steps))
