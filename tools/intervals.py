"""Shares with their intervals, as every table of the tools shows them."""

from __future__ import annotations

from scipy.stats import binomtest


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
