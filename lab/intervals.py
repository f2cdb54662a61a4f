"""Shares and means with their intervals, as every table of the tools shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan, sqrt
from statistics import fmean, stdev

import numpy as np
from scipy.stats import binomtest, t


def wilson(right: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of the share right / count, in 0..1 (E. B. Wilson, JASA 22, 1927). Raises ValueError for no trials."""
    if count < 1:
        raise ValueError("an interval needs at least one trial")
    interval = binomtest(right, count).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def percent(right: int, count: int) -> str:
    """A share with its 95 % interval, in %: "50 (24 to 76)"."""
    low, high = wilson(right, count)
    return f"{100 * right / count:.0f} ({100 * low:.0f} to {100 * high:.0f})"


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student's interval of a mean, in the values' unit; not a number for fewer than two values, which tell nothing of their spread."""
    if len(values) < 2:
        return nan, nan
    half = float(t.ppf((1 + level) / 2, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def mean(values: Sequence[float]) -> str:
    """A mean with its 95 % interval: "27.3 (26.9 to 27.7)"."""
    low, high = mean_interval(values)
    return f"{fmean(values):.1f} ({low:.1f} to {high:.1f})"


def bootstrap(statistic: Callable[[np.ndarray], np.ndarray], groups: np.ndarray, draws: int = 10_000) -> tuple[float, float]:
    """95 % percentile interval of a statistic of groups (N, ...) drawn anew with replacement; not a number for fewer than two groups.

    statistic: (draws, N, ...) -> (draws,). The draws are the same in every run.
    """
    if len(groups) < 2:
        return nan, nan
    drawn = statistic(groups[np.random.default_rng(0).integers(len(groups), size=(draws, len(groups)))])
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)
