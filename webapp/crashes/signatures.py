"""Signatures: how one is made from a crash's frames, and which ones a bug names. Pure; touches no table."""

import re

from crashes.models import SIGNATURE_MAX_LENGTH

FRAMES_IN_SIGNATURE = 3
# Frames that say how a process ended, not why: they would put unrelated crashes under one signature.
IRRELEVANT_FRAMES = frozenset({"abort", "raise", "RaiseException", "__GI_raise", "KiUserExceptionDispatcher"})

# `[@ name]`, where a name may have brackets in it, such as operator[].
_IN_BUG = re.compile(r"\[@((?:[^\[\]]|\[[^\[\]]*\])*)\]")


def make_signature(frames: str) -> str:
    """The signature of a crash with these frames, innermost first, one a line.

    Without frames: `EMPTY: no frames`.
    """
    names = [frame for line in frames.splitlines() if (frame := line.strip())]
    relevant = [name for name in names if name not in IRRELEVANT_FRAMES] or names
    if not relevant:
        return "EMPTY: no frames"
    return " | ".join(relevant[:FRAMES_IN_SIGNATURE])[:SIGNATURE_MAX_LENGTH]


def signatures_of_bug(text: str) -> set[str]:
    """The signatures that a bug's field names as `[@ one] [@ two]`, whatever stands between them."""
    return {name[:SIGNATURE_MAX_LENGTH] for match in _IN_BUG.findall(text) if (name := match.strip())}
