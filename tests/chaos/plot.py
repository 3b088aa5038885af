"""PURE. Draws a few curves over time below each other, as SVG: no library is worth it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, PANEL_HEIGHT, LEFT, TOP, GAP = 760, 110, 90, 40, 34
COLOURS = ("#1f6feb", "#2da44e", "#bf3989", "#bc4c00", "#6e40c9", "#57606a", "#0a7d83")


@dataclass(frozen=True, slots=True)
class Curve:
    """One quantity over time."""

    title: str
    points: Sequence[tuple[float, float]]
    """Minutes, and the value."""


def draw(title: str, curves: Sequence[Curve]) -> str:
    """Return the picture, each curve in a panel that begins at zero."""
    height = TOP + len(curves) * (PANEL_HEIGHT + GAP) + 20
    minutes = max((x for curve in curves for x, _ in curve.points), default=1.0) or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 30}" height="{height}">',
        '<rect width="100%" height="100%" fill="white"/>',
        "<style>text { font: 12px sans-serif }</style>",
        f'<text x="{LEFT}" y="22">{escape(title)}</text>',
    ]
    for number, curve in enumerate(curves):
        top = TOP + number * (PANEL_HEIGHT + GAP)
        parts += _panel(curve, top, minutes, COLOURS[number % len(COLOURS)])
    bottom = height - 18
    for tick in range(5):
        x = LEFT + WIDTH * tick / 4
        parts.append(
            f'<text x="{x:.0f}" y="{bottom}" text-anchor="middle">{minutes * tick / 4:.0f} min</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _panel(curve: Curve, top: int, minutes: float, colour: str) -> list[str]:
    most = max((y for _, y in curve.points), default=1.0) or 1.0
    scaled = [
        f"{LEFT + WIDTH * x / minutes:.1f},{top + PANEL_HEIGHT * (1 - y / most):.1f}" for x, y in curve.points
    ]
    bottom = top + PANEL_HEIGHT
    return [
        f'<path d="M{LEFT} {top}V{bottom}H{LEFT + WIDTH}" fill="none" stroke="#8c959f"/>',
        f'<text x="{LEFT - 6}" y="{top + 10}" text-anchor="end">{most:,.0f}</text>',
        f'<text x="{LEFT - 6}" y="{bottom}" text-anchor="end">0</text>',
        f'<text x="{LEFT + 4}" y="{top - 5}" fill="{colour}">{escape(curve.title)}</text>',
        f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{" ".join(scaled)}"/>',
    ]
