"""Picture against sound along one setting at a time, of records: where a setting trades one for the other, and where both gain."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

from ..intervals import mean_interval, wilson
from .records import Record
from .rows import TABLES
from .tables import QUESTIONS, answered, grouped

CURVES = {
    **{name: TABLES[name] for name in ("guidance", "audio-weight", "ddim", "multistep")},
    "warm start": ("no-warm-start", "joint", "warm-start-0.8"),
    **{name: (name,) for name in ("image-first", "cosine", "imprint", "sds", "image", "audio")},
}
Value = Callable[[list[Record]], tuple[float, tuple[float, float]]]


def _share(question: str) -> Value:
    def value(group: list[Record]) -> tuple[float, tuple[float, float]]:
        right = sum(map(QUESTIONS[question], group))
        low, high = wilson(right, len(group))
        return 100 * right / len(group), (100 * low, 100 * high)

    return value


def _mean(key: str) -> Value:
    def value(group: list[Record]) -> tuple[float, tuple[float, float]]:
        values = [record[key] for record in group]
        return fmean(values), mean_interval(values) if len(values) > 1 else (values[0], values[0])

    return value


AXES: dict[str, tuple[tuple[str, str, Value], tuple[str, str, Value]]] = {
    "judges": (("sound", "sound recognised, %", _share("sound")), ("picture", "picture recognised, %", _share("picture"))),
    "scores": (("clap", "sound score (CLAP)", _mean("clap")), ("clip", "picture score (CLIP)", _mean("clip"))),
}


def curves(records: list[Record], by: str) -> str:
    """SVG of all curves that the records have rows for, `by` "judges" or "scores". Raises ValueError where they have none."""
    from .chart import Point, chart  # here, because only charts need matplotlib

    (x_key, x_title, x_value), (y_key, y_title, y_value) = AXES[by]
    groups = grouped(records, lambda record: record["row"])
    series: dict[str, list[Point]] = {}
    for name, rows in CURVES.items():
        shown = [row for row in rows if row in groups and answered(groups[row], x_key) and answered(groups[row], y_key)]
        if len(shown) < min(2, len(rows)):  # one point of a curve says nothing of its setting
            continue
        points = []
        for row in shown:
            (x, x_interval), (y, y_interval) = x_value(groups[row]), y_value(groups[row])
            value = row.rpartition("-")[2]
            points.append(Point(x, y, x_interval, y_interval, value if value[0].isdigit() else row))
        series[name] = points
    return chart(series, x_title, y_title)
