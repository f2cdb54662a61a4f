"""Lines of points with intervals in both directions, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import torch

from itsound_core.scatter import Axis

WIDTH, HEIGHT, MARGIN, LEGEND = 860, 560, 64, 220
COLORS = ("#1f6fd0", "#d9730d", "#2a9d4a", "#b13a8f", "#7a5cd6", "#8a6d3b", "#c0392b", "#16868f")  # legible on white and on black
INK, GRID = "#808080", "#80808040"
LETTER, LINE = 7.5, 14
"""Pixels that a letter is wide at most, and a line of text high."""
BESIDE = [(side, rise) for rise in (-6, 16, -22, 32, -38, 48) for side in (1, -1)]
"""Where a label may stand beside its point, the better first: to the right or left, and its base line so far below."""


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
    x_axis = Axis(_values([p.x for p in points], [p.x_interval for p in points]), MARGIN, WIDTH - LEGEND)
    y_axis = Axis(_values([p.y for p in points], [p.y_interval for p in points]), HEIGHT - MARGIN, MARGIN / 2)
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    drawn = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13" fill="{INK}">']
    for value in x_axis.ticks:
        x = x_axis.place(value)
        drawn += [_line(x, y_axis.start, x, y_axis.end, GRID), _text(x, y_axis.start + 18, f"{value:g}", "middle")]
    for value in y_axis.ticks:
        y = y_axis.place(value)
        drawn += [_line(x_axis.start, y, x_axis.end, y, GRID), _text(x_axis.start - 8, y + 4, f"{value:g}", "end")]
    drawn.append(_text((x_axis.start + x_axis.end) / 2, HEIGHT - 16, x_title, "middle"))
    drawn.append(f'<g transform="rotate(-90)">{_text(-(y_axis.start + y_axis.end) / 2, 18, y_title, "middle")}</g>')
    colors = iter(COLORS)
    labels: list[tuple[float, float, str]] = []
    for number, (name, line) in enumerate(series.items()):
        color = next(colors) if len(line) > 1 else INK
        places = [(x_axis.place(point.x), y_axis.place(point.y)) for point in line]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        drawn.append(f'<polyline points="{joined}" fill="none" stroke="{color}" stroke-width="2"/>')
        for point, (x, y) in zip(line, places, strict=True):
            drawn.append(_line(x_axis.place(point.x_interval[0]), y, x_axis.place(point.x_interval[1]), y, f"{color}80"))
            drawn.append(_line(x, y_axis.place(point.y_interval[0]), x, y_axis.place(point.y_interval[1]), f"{color}80"))
            drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>')
            labels.append((x, y, point.label))
        if len(line) > 1:
            top, left = 40 + 22 * number, WIDTH - LEGEND + 16
            drawn += [_line(left, top, left + 24, top, color, 3), _text(left + 32, top + 4, name, "start")]
    return "\n".join([*drawn, *_labels(labels), "</svg>", ""])


def _labels(labels: Sequence[tuple[float, float, str]]) -> list[str]:
    """Each (x, y, label) once, at the first place beside its point where it covers nothing; at the best where there is none such."""
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y, _ in labels]
    drawn = []
    for x, y, label in dict.fromkeys(labels):
        if not label:
            continue
        width = LETTER * len(label)
        places = [(x + 6 * side, y + rise, side) for side, rise in BESIDE]
        boxes = [(min(at, at + side * width), base - LINE + 3, max(at, at + side * width), base + 3) for at, base, side in places]
        best = next((i for i, box in enumerate(boxes) if not any(_overlap(box, other) for other in taken)), 0)
        taken.append(boxes[best])
        at, base, side = places[best]
        drawn.append(_text(at, base, label, "start" if side > 0 else "end"))
    return drawn


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _values(values: list[float], intervals: list[tuple[float, float]]) -> torch.Tensor:
    return torch.tensor([*values, *(end for interval in intervals for end in interval)])


def _line(x1: float, y1: float, x2: float, y2: float, color: str, width: float = 1) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
