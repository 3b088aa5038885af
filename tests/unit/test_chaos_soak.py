"""What the soak says of what it measured: flat or not, and its picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from tests.chaos.dice import Bag
from tests.chaos.flatness import trend
from tests.chaos.plot import Curve, draw


def test_what_stays_is_flat() -> None:
    """However it jumps about, and whatever the beginning was."""
    points = [(float(minute), 100.0 + 5 * (minute % 3)) for minute in range(60)]
    points[:10] = [(float(minute), 10.0 * minute) for minute in range(10)]
    points[50] = (50.0, 900.0)
    found = trend(points)
    assert found.growth == pytest.approx(0, abs=0.01)
    assert found.level == pytest.approx(105)


def test_what_leaks_is_not_flat() -> None:
    """A tenth an hour is seen among the noise."""
    points = [(float(minute), 100.0 + minute / 6 + (minute % 2)) for minute in range(60)]
    assert trend(points).growth == pytest.approx(0.055, abs=0.01)


def test_picture_has_every_curve_within_its_panel() -> None:
    """It is well-formed, and nothing lies outside."""
    curves = [Curve("a < b", [(0, 0), (5, 50), (10, 100)]), Curve("c", [(0, 0), (10, 0)])]
    picture = ET.fromstring(draw("Title & more", curves))  # noqa: S314 - our own
    lines = picture.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2
    width, height = float(picture.get("width", "0")), float(picture.get("height", "0"))
    for line in lines:
        for pair in line.get("points", "").split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height


def test_bag_gives_all_before_any_again() -> None:
    """In an order that only the seed decides."""
    kinds = ["a", "b", "c", "d"]
    first, second = Bag(1, kinds), Bag(1, kinds)
    drawn = [first.take() for _ in range(12)]
    assert drawn == [second.take() for _ in range(12)]
    for start in range(0, 12, 4):
        assert sorted(drawn[start : start + 4]) == kinds
