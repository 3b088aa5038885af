"""What an API server's refusal may tell, and what an admission webhook took away without refusing.

PURE. No values of objects are told, in which secrets may stand (a refusal of a field that can't be changed quotes
the whole pod template, env and all), and not too much.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Body = Mapping[str, Any]

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


def taken_away(sent: Body, made: Body) -> list[str]:
    """Name the parts of a Job or CronJob that was sent which it can't do without, and that it was made without."""
    lost = _metadata_lost(sent["metadata"], made["metadata"], "metadata")
    template = sent["spec"].get("jobTemplate")
    if template is not None:
        found = (made["spec"].get("jobTemplate") or {}).get("metadata") or {}
        lost += _metadata_lost(template["metadata"], found, "spec.jobTemplate.metadata")
    elif sent["spec"].get("suspend") and not made["spec"].get("suspend"):
        lost.append("spec.suspend")
    return lost


def _metadata_lost(wanted: Body, found: Body, path: str) -> list[str]:
    lost = [
        f"{path}.{part}"
        for part in ("labels", "annotations")
        if not dict(wanted.get(part) or {}).items() <= dict(found.get(part) or {}).items()
    ]
    owners = {one["uid"] for one in wanted.get("ownerReferences") or ()}
    if not owners <= {one.get("uid") for one in found.get("ownerReferences") or ()}:
        lost.append(f"{path}.ownerReferences")
    return lost


def taken_away_sentence(kind: str, lost: list[str]) -> str:
    """Say it to a person."""
    return f"the {kind} was made without {', '.join(lost)}; an admission webhook must leave these as they are"
