"""Successive halving: many samples are begun, and after each rung only the more promising go on (Jamieson and Talwalkar, AISTATS 2016)."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Rung:
    """After `step` steps the best `keep` samples go on."""

    step: int
    keep: int


@dataclass(frozen=True)
class Plan:
    """A search among `candidates` samples; the last rung leaves the keepers, and these take what is left of `steps` steps."""

    candidates: int
    steps: int
    rungs: tuple[Rung, ...]
    rerun: bool
    """Whether the keepers are drawn anew from the start, because their sampler cannot go on where it was stopped."""

    @property
    def cost(self) -> int:
        """Steps of single samples in all."""
        total, step, alive = 0, 0, self.candidates
        for rung in self.rungs:
            total += alive * (rung.step - step)
            step, alive = rung.step, rung.keep
        return total + alive * (self.steps if self.rerun else self.steps - step)


def plan(candidates: int, keepers: int, steps: int, budget: float, earliest: int = 1, rerun: bool = False) -> Plan:
    """The plan that decides as late as the budget allows, by rungs an equal number of steps apart that halve the samples, nearly.

    budget: full samples' worth of steps. earliest: steps before which nothing can be told of a sample (the warm start). With the budget of
    all candidates nothing is decided before the end. Raises ValueError for impossible numbers, and where the budget is too small, with the
    smallest that would do.
    """
    if not 1 <= keepers <= candidates:
        raise ValueError(f"{keepers} keepers of {candidates} candidates: keep at least 1 and at most all.")
    if steps < earliest:
        raise ValueError(f"{steps} steps are too few: nothing can be told of a sample before step {earliest}.")
    halvings = max(1, math.ceil(math.log2(candidates / keepers)))
    alive = [round(candidates * (keepers / candidates) ** (i / halvings)) for i in range(1, halvings + 1)]
    for lateness in range(2 * steps, 0, -1):
        rungs: dict[int, int] = {}
        for i, keep in enumerate(alive, start=1):
            # up to `steps`, the last rung comes at `lateness`; beyond, the others move towards the end
            place = lateness * i / halvings if lateness <= steps else steps - (2 * steps - lateness) * (halvings - i) / halvings
            rungs[max(earliest, round(place))] = keep
        found = Plan(candidates, steps, tuple(Rung(*rung) for rung in rungs.items()), rerun and max(rungs) < steps)
        if found.cost <= budget * steps:
            return found
    smallest = math.ceil(10 * found.cost / steps) / 10
    raise ValueError(
        f"a budget of {budget:g} full samples is too small to choose {keepers} of {candidates} candidates at {steps} steps: "
        f"{smallest:g} or more are needed, or fewer candidates."
    )
