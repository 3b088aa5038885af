"""Where time went is drawn as it was sampled."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from benchmarks import flame

OURS = {"reconciler.py", "backfill.py"}
LOOP = "main (runpy.py);run_forever (asyncio/base_events.py);Handle._run (asyncio/events.py)"
FOLDED = [
    f"{LOOP};Reconciler._work (reconciler.py:201);decide (backfill.py:27) 60",
    f"{LOOP};Reconciler._work (reconciler.py:201) 20",
    f"{LOOP};watcher (kopf/queueing.py:8);loads (json/__init__.py) 10",
    "main (runpy.py);load (<frozen importlib._bootstrap>);<module> (kopf/on.py) 9",
    "main (runpy.py) 1",
    "main (runpy.py);run_forever (asyncio/base_events.py);EpollSelector.select (selectors.py:451) 500",
    "Thread.run (threading.py:971);_worker (concurrent/futures/thread.py:69) 500",
]


def bars(drawn: str) -> dict[str, tuple[float, float, str]]:
    """Return where each bar begins, how wide it is and its colour, by what its tooltip says."""
    found = {}
    space = "{http://www.w3.org/2000/svg}"
    for group in ET.fromstring(drawn).iter(f"{space}g"):  # noqa: S314 - our own
        title, bar = group.find(f"{space}title"), group.find(f"{space}rect")
        assert title is not None
        assert bar is not None
        found[title.text or ""] = (float(bar.attrib["x"]), float(bar.attrib["width"]), bar.attrib["fill"])
    return found


def test_each_bar_is_as_wide_as_its_share_and_has_its_owners_colour() -> None:
    """Frames below the event loop's turn are left out, and threads that wait; imports are one bar."""
    found = bars(flame.draw("restart", FOLDED, OURS))
    whole = flame.WIDTH - 2 * flame.LEFT
    ours, kopf = flame.COLOURS[flame.OURS], flame.COLOURS["kopf"]
    assert {told: colour for told, (_, _, colour) in found.items()} == {
        "Reconciler._work (reconciler.py:201): 80.0 %": ours,
        "decide (backfill.py:27): 60.0 %": ours,
        "watcher (kopf/queueing.py:8): 10.0 %": kopf,
        "loads (json/__init__.py): 10.0 %": flame.COLOURS["json"],
        "imports (importlib/): 9.0 %": flame.COLOURS[flame.OTHERS],
        "main (runpy.py): 1.0 %": flame.COLOURS[flame.OTHERS],
    }
    for told, (_, width, _) in found.items():
        share = float(re.findall(r"([\d.]+) %", told)[0]) / 100
        assert width == pytest.approx(whole * share, abs=0.6)
    assert (
        found["decide (backfill.py:27): 60.0 %"][0]
        == found["Reconciler._work (reconciler.py:201): 80.0 %"][0]
    )


def test_what_had_next_to_nothing_is_not_drawn() -> None:
    """Else the picture would be as large as the samples."""
    found = bars(flame.draw("restart", [*FOLDED, "rare (rare.py) 1", f"{LOOP};often (often.py) 900"], OURS))
    assert "often (often.py): 89.9 %" in found
    assert not any(told.startswith("rare") for told in found)


def test_no_samples_are_no_picture() -> None:
    """An empty picture would look like a result."""
    with pytest.raises(ValueError, match="no samples"):
        flame.draw("restart", [], OURS)
