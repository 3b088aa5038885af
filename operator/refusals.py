"""What an API server's refusal may tell: no values of objects, in which secrets may stand, and not too much.

PURE. A refusal of a field that can't be changed quotes the whole pod template, env and all.
"""

from __future__ import annotations

import re

MESSAGE_MAX_CHARACTERS = 1000
"""An admission webhook may answer with any amount of text."""
_OBJECT = re.compile(
    r"\b(Invalid|Duplicate|Unsupported) value: (?:[\[{]|[&*]?[\w.\[\]*]+\{).*[}\]](?=: |,|\])", re.DOTALL
)
_UNENDED = re.compile(r"\b(Invalid|Duplicate|Unsupported) value: (?:[\[{]|[&*]?[\w.\[\]*]+\{).*", re.DOTALL)


def without_values(message: str) -> str:
    """Return the message in one line, without objects, and cut."""
    text = _OBJECT.sub(r"\1 value", message)
    text = " ".join(_UNENDED.sub(r"\1 value", text).split())
    return text if len(text) <= MESSAGE_MAX_CHARACTERS else f"{text[: MESSAGE_MAX_CHARACTERS - 1]}…"
