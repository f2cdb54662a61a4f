"""Lines of points with intervals in both directions, as SVG by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Annotation

SIZE = 8.6, 5.6  # inches of 72 points
INK = "#808080"  # legible on white and on black, as matplotlib's own colours of lines are
STYLE: dict[Any, str] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "chart",
    "font.sans-serif": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": INK,
}
BESIDE = [(side, rise) for rise in (4, -12, 18, -26, 32, -40) for side in (1, -1)]
"""Where a label may stand beside its point, the better first: to the right or left, and its base line so many points above."""


@dataclass(frozen=True)
class Point:
    """A value with its interval on each axis, and what is written beside it."""

    x: float
    y: float
    x_interval: tuple[float, float]
    y_interval: tuple[float, float]
    label: str = ""


def chart(series: Mapping[str, Sequence[Point]], x_title: str, y_title: str) -> str:
    """An SVG with a line of points for each series, in order, and a legend of the lines; a series of one point is gray, and not in it.

    Raises ValueError where there is nothing to show.
    """
    points = [point for line in series.values() for point in line]
    if not points:
        raise ValueError("there is nothing to draw: no row of any curve has records with these values")
    with rc_context(STYLE):
        figure = Figure(SIZE, layout="constrained")
        axes = figure.subplots()
        axes.set(xlabel=x_title, ylabel=y_title)
        axes.tick_params(color=INK, labelcolor=INK)
        axes.grid(color=INK, alpha=0.25)
        axes.spines[:].set_visible(False)
        for name, line in series.items():
            label, color = (name, None) if len(line) > 1 else ("_", INK)
            x, y = [point.x for point in line], [point.y for point in line]
            errors = [_errors(x, [point.x_interval for point in line]), _errors(y, [point.y_interval for point in line])]
            drawn = axes.errorbar(x, y, xerr=errors[0], yerr=errors[1], fmt="o-", elinewidth=1, label=label, color=color)
            drawn[0].set_gid(f"line {name}")
            for bar in drawn[2]:
                bar.set_alpha(0.5)
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside right upper", frameon=False)
        figure.draw_without_rendering()  # fixes the layout, and with it where points are on the page
        figure.set_layout_engine("none")
        _label(figure, list(dict.fromkeys((point.x, point.y, point.label) for point in points)))
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Creator": None, "Date": None})
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _errors(values: Sequence[float], intervals: Sequence[tuple[float, float]]) -> list[list[float]]:
    """What is below and above each value, as error bars take it."""
    below = [max(value - low, 0.0) for value, (low, _) in zip(values, intervals, strict=True)]
    return [below, [max(high - value, 0.0) for value, (_, high) in zip(values, intervals, strict=True)]]


def _label(figure: Figure, labels: Sequence[tuple[float, float, str]]) -> None:
    """Each (x, y, label), at the first of `BESIDE` where it covers no point and no other label; at the best where there is none such."""
    (axes,) = figure.axes
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in axes.transData.transform([(x, y) for x, y, _ in labels])]
    for x, y, label in labels:
        if not label:
            continue
        written = [
            axes.annotate(label, (x, y), (7 * side, rise), textcoords="offset points", ha="left" if side > 0 else "right")
            for side, rise in BESIDE
        ]
        boxes = [_box(text) for text in written]
        best = next((i for i, box in enumerate(boxes) if not any(_overlap(box, other) for other in taken)), 0)
        taken.append(boxes[best])
        for i, text in enumerate(written):
            if i != best:
                text.remove()


def _box(text: Annotation) -> tuple[float, float, float, float]:
    return text.get_window_extent().extents


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
