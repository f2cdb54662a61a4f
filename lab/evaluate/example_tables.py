"""Tables and sheets of what lab.evaluate.examples records."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..intervals import mean_interval, percent

Record = dict[str, Any]
MEASURES = {"picture": 2, "canvas": 2, "pieces": 2, "blocks": 2, "clap": 1, "cycle_db": 1}
DRAWS = 10_000
IMPRINT = ("sound", "imprint")


def by_way(records: list[Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[record["way"]].append(record)
    return {way: sorted(group, key=lambda record: record["index"]) for way, group in groups.items()}


def table(records: list[Record]) -> str:
    """Markdown: a line a way, means with Student's 95 % interval; last, how much more CLAP it has than imprint that shows as much."""
    lines = [f"| way | n | {' | '.join(MEASURES)} | right, % | CLAP above imprint at as much picture | at as much blocks |"]
    lines.append("|---" * (len(MEASURES) + 5) + "|")
    groups = by_way(records)
    for way, group in groups.items():
        cells = []
        for key, digits in MEASURES.items():
            values = [record[key] for record in group]
            low, high = mean_interval(values)
            cells.append(f"{np.mean(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})")
        cells.append(percent(sum(record["right"] for record in group), len(group)))
        cells += ["-", "-"] if way.startswith(IMPRINT) else [gap(groups, way, key) for key in ("picture", "blocks")]
        lines.append(f"| {way} | {len(group)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def parts(records: list[Record], key: str) -> str:
    """Markdown: means of picture, blocks and CLAP by `key`, "picture_name" or "sound"."""
    names = list(dict.fromkeys(record[key] for record in sorted(records, key=lambda record: record["index"])))
    lines = [f"| picture, blocks, CLAP | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for way, group in by_way(records).items():
        cells = []
        for name in names:
            means = [np.mean([record[measure] for record in group if record[key] == name]) for measure in ("picture", "blocks", "clap")]
            cells.append(f"{means[0]:.2f}, {means[1]:.2f}, {means[2]:.0f}")
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def gap(groups: dict[str, list[Record]], way: str, key: str) -> str:
    """CLAP of a way less that of the imprint curve (the sound alone is its start) at the same mean of `key`, on the same pairs.

    The interval is a bootstrap over pictures and over sounds at once. Beyond the curve's end (rho 1) it is less that end's: ">".
    """
    rho = {name: group[0]["settings"]["rho"] for name, group in groups.items() if name.startswith(IMPRINT)}
    curve = sorted(rho, key=lambda name: rho[name])
    pairs = {(r["picture_name"], r["sound"]) for r in groups[way]}
    for name in curve:
        pairs &= {(r["picture_name"], r["sound"]) for r in groups[name]}
    if len(curve) < 2 or len(pairs) < len(groups[way]):
        return "-"
    pictures, sounds = (sorted({pair[i] for pair in pairs}) for i in (0, 1))
    values = np.full((2, len(curve) + 1, len(pictures), len(sounds)), np.nan)
    for line, name in enumerate([*curve, way]):
        for r in groups[name]:
            if (r["picture_name"], r["sound"]) in pairs:
                values[:, line, pictures.index(r["picture_name"]), sounds.index(r["sound"])] = r[key], r["clap"]
    rng = np.random.default_rng(0)
    found = []
    for draw in range(DRAWS + 1):
        rows = rng.integers(len(pictures), size=len(pictures)) if draw else np.arange(len(pictures))
        columns = rng.integers(len(sounds), size=len(sounds)) if draw else np.arange(len(sounds))
        seen, heard = np.nanmean(values[:, :, rows][..., columns], axis=(2, 3))
        found.append((heard[-1] - np.interp(seen[-1], seen[:-1], heard[:-1]), seen[-1] > seen[-2]))
    low, high = np.nanquantile([value for value, _ in found[1:]], (0.025, 0.975))
    return f"{'> ' if found[0][1] else ''}{found[0][0]:.1f} ({low:.1f} to {high:.1f})"


def sheet(folder: Path, ways: list[str], numbers: list[int], scale: float = 0.4) -> Image.Image:
    """A row a way, a column a pair."""
    rows = [np.concatenate([np.asarray(Image.open(folder / way / f"{i:02d}.png")) for i in numbers], axis=1) for way in ways]
    whole = Image.fromarray(np.concatenate(rows))
    return whole.resize((round(whole.width * scale), round(whole.height * scale)), Image.Resampling.LANCZOS)
