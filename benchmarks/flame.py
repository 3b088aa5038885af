"""PURE. Draws where time went, from stacks that were sampled: each frame as wide as the samples it was on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from html import escape

WIDTH, ROW, TOP, LEFT = 1200, 17, 40, 10
LEAST_SHARE = 0.004
"""What had less of all samples is not drawn."""
CHARACTER_WIDTH = 6.2
TURN = "Handle._run (asyncio/events.py"
"""Below this frame is only how the event loop came to be; above it, what had its turn."""
WAITS = ("EpollSelector.select (selectors.py", "_worker (concurrent/futures/thread.py")
"""Where a thread waits for something to do: not drawn."""
IMPORT = "<frozen importlib"
IMPORTS = "imports (importlib/)"
OURS, OTHERS = "crontabber", "others"
COLOURS = {OURS: "#f0883e", "kopf": "#a371f7", "aiohttp": "#58a6ff", "json": "#56d364", OTHERS: "#d0d7de"}


@dataclass
class Frame:
    """A function, called from where it stands, and what it called."""

    count: int = 0
    called: dict[str, Frame] = field(default_factory=dict)

    @property
    def height(self) -> int:
        """How many functions deep it goes, itself aside."""
        return max((1 + one.height for one in self.called.values()), default=0)


def draw(title: str, folded: Iterable[str], ours: Collection[str]) -> str:
    """Draw lines of `function (file);… count`, as py-spy writes them; SVG with what each is in its tooltip.

    `ours`: the names of the operator's own files. Raises ValueError where there are no samples.
    """
    whole = gathered(folded)
    if not whole.count:
        raise ValueError("no samples")
    least = whole.count * LEAST_SHARE
    _prune(whole, least)
    height = TOP + (whole.height + 1) * ROW + 10
    scale = (WIDTH - 2 * LEFT) / whole.count
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}">',
            "<style>text { font: 11px sans-serif }</style>",
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            f'<text x="{LEFT}" y="18" font-weight="bold">{escape(title)}: {whole.count} samples</text>',
            *_legend(),
            *_drawn(whole, LEFT, TOP, scale, whole.count, partial(_colour, ours)),
            "</svg>",
            "",
        ]
    )


def gathered(folded: Iterable[str]) -> Frame:
    """Put the stacks together: what had its turn in the event loop, all imports as one, and what was beside them."""
    whole = Frame()
    for line in folded:
        stack, _, count = line.rstrip().rpartition(" ")
        if stack.rpartition(";")[2].startswith(WAITS):
            continue
        at = whole
        at.count += int(count)
        for name in _of_interest(stack.split(";")):
            at = at.called.setdefault(name, Frame())
            at.count += int(count)
    return whole


def _of_interest(frames: list[str]) -> list[str]:
    if any(IMPORT in name for name in frames):
        return [IMPORTS]
    turns = [number for number, name in enumerate(frames) if name.startswith(TURN)]
    return frames[turns[-1] + 1 :] if turns else frames


def _prune(frame: Frame, least: float) -> None:
    frame.called = {name: one for name, one in frame.called.items() if one.count >= least}
    for one in frame.called.values():
        _prune(one, least)


def _legend() -> Iterator[str]:
    x = WIDTH - LEFT
    for name, colour in reversed(COLOURS.items()):
        x -= int(len(name) * CHARACTER_WIDTH) + 26
        yield f'<rect x="{x}" y="9" width="11" height="11" fill="{colour}"/>'
        yield f'<text x="{x + 15}" y="18">{name}</text>'


def _drawn(
    frame: Frame, x: float, y: int, scale: float, all_: int, colour: Callable[[str], str]
) -> Iterator[str]:
    for name, one in sorted(frame.called.items(), key=lambda item: -item[1].count):
        width = one.count * scale
        told = escape(f"{name}: {100 * one.count / all_:.1f} %")
        fits = int((width - 6) / CHARACTER_WIDTH)
        yield f"<g><title>{told}</title>"
        yield (
            f'<rect x="{x:.1f}" y="{y}" width="{max(width - 0.5, 0.5):.1f}" height="{ROW - 1}"'
            f' fill="{colour(name)}"/>'
        )
        if fits > 2:
            short = name.partition(" (")[0]
            yield f'<text x="{x + 3:.1f}" y="{y + 12}">{escape(short[:fits])}</text>'
        yield "</g>"
        yield from _drawn(one, x, y + ROW, scale, all_, colour)
        x += width


def _colour(ours: Collection[str], name: str) -> str:
    """Tell whose a frame is by its file, which py-spy names from the package on: ours have none before them."""
    file = name.partition(" (")[2].partition(":")[0].rstrip(")")
    return COLOURS[OURS] if file in ours else COLOURS.get(file.partition("/")[0], COLOURS[OTHERS])
