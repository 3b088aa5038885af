"""Figures, and how they are written: percentiles, the table, plots as SVG. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WIDTH, HEIGHT, MARGIN = 560, 280, 46
COLOURS = ("#1f6feb", "#d1481f", "#2d8a4e")


@dataclass(frozen=True)
class Line:
    """A row of the table."""

    what: str
    ours: str
    beside: str = ""
    """What it is compared with, measured in the same run."""
    ratio: str = ""
    target: str = ""


@dataclass
class Result:
    """What a measurement found."""

    lines: list[Line] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    plots: dict[str, str] = field(default_factory=dict)
    """SVG by name."""


def joined(results: Sequence[Result]) -> Result:
    """Put results together."""
    whole = Result()
    for one in results:
        whole.lines += one.lines
        whole.figures |= one.figures
        whole.plots |= one.plots
    return whole


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that so many percent don't exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def spread(values: Sequence[float], unit: str = "ms", scale: float = 1000) -> str:
    """Write median, 99th percentile and largest."""
    if not values:
        return "none"
    half, most, all_of_them = (
        f"{value * scale:.3g}" for value in (percentile(values, 50), percentile(values, 99), max(values))
    )
    return f"p50 {half}, p99 {most}, most {all_of_them} {unit}"


def ratio(ours: float, beside: float) -> str:
    """Write how many times as long (or much) ours is."""
    return f"{ours / beside:.2f}" if beside else ""


def table(lines: Sequence[Line]) -> str:
    """Write the table as Markdown."""
    rows = [["measured", "crontabber", "beside it", "ratio", "wanted"]]
    rows += [[line.what, line.ours, line.beside, line.ratio, line.target] for line in lines]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    written = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    return "\n".join([written[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *written[1:]])


def cumulative(values: Sequence[float]) -> list[tuple[float, float]]:
    """Return how many percent of the values are at most so large, at each of them."""
    ordered = sorted(values)
    step = max(1, len(ordered) // 200)
    points = [(value, 100 * (index + 1) / len(ordered)) for index, value in enumerate(ordered)]
    return [*points[::step], points[-1]] if points else []


def plot(title: str, across: str, up: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Draw lines."""
    points = [point for line in series.values() for point in line]
    right = max((x for x, _ in points), default=1) or 1
    top = max((y for _, y in points), default=1) or 1
    inner_width, inner_height = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN

    def place(point: tuple[float, float]) -> str:
        x = MARGIN + inner_width * point[0] / right
        return f"{x:.1f},{HEIGHT - MARGIN - inner_height * point[1] / top:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}">',
        "<style>text { font: 11px sans-serif }</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{MARGIN}" y="18" font-weight="bold">{title}</text>',
        f'<path d="M{MARGIN},{MARGIN} V{HEIGHT - MARGIN} H{WIDTH - MARGIN}" fill="none" stroke="#666"/>',
        f'<text x="{WIDTH // 2}" y="{HEIGHT - 10}" text-anchor="middle">{across}</text>',
        f'<text x="{MARGIN}" y="{MARGIN - 8}">{up}</text>',
        f'<text x="{MARGIN - 4}" y="{MARGIN + 4}" text-anchor="end">{top:.3g}</text>',
        f'<text x="{MARGIN - 4}" y="{HEIGHT - MARGIN}" text-anchor="end">0</text>',
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - MARGIN + 14}" text-anchor="end">{right:.3g}</text>',
    ]
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        drawn = " ".join(place(point) for point in line)
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        parts.append(
            f'<text x="{WIDTH - MARGIN}" y="{MARGIN + 14 * number}" text-anchor="end" fill="{colour}">{name}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])
