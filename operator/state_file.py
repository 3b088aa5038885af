"""The file that carries bookkeeping from one cluster to another: what of a status travels, and its JSON.

What travels is what a person would call the books: last success, cursor, runs, errors, commands. What belongs
to one cluster stays behind: uids, the claim, conditions, and all that the operator derives anew. This module
must not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from crontabber_operator.commands import PENDING
from crontabber_operator.forms import OBJECT_NAME
from crontabber_operator.models import GROUP, VERSION, Status
from crontabber_operator.times import format_time

KIND = "CrontabberState"
TRAVELLING = (
    "first_run_time",
    "last_run_time",
    "last_success_time",
    "settled_through",
    "skipped",
    "skipped_by",
    "error_count",
    "last_error",
    "history",
    "last_commands",
)
"""The fields of a status that travel."""
_KEYS = frozenset(to_camel(name) for name in TRAVELLING)
_STATUS = TypeAdapter(Status)


class StateFileError(ValueError):
    """The file is not what `crontabber state export` writes; the message says where."""


@dataclass(frozen=True, slots=True)
class StateItem:
    """The books of one job."""

    namespace: str | None
    """None: that of whoever imports it."""
    name: str
    status: Status

    @property
    def place(self) -> str:
        """How messages call it."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def travelling(status: Status, cursor: datetime | None) -> Status:
    """Return what travels of a status; `cursor` is up to when its slots are settled.

    The cursor is written out also where it came from the creation: a resource made anew is younger, and
    the slots in between would be lost. A command that is still pending stays with the annotation's cluster.
    """
    kept = Status(**{name: getattr(status, name) for name in TRAVELLING})
    return replace(
        kept,
        settled_through=cursor,
        last_commands=tuple(record for record in kept.last_commands if record.result != PENDING),
    )


def write_state(items: Iterable[StateItem], exported: datetime) -> str:
    """Write the file: JSON, sorted, so that two exports of the same books differ in nothing but the time."""
    body = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "exported": format_time(exported),
        "items": [
            {
                **({"namespace": item.namespace} if item.namespace is not None else {}),
                "name": item.name,
                "status": _written(item.status),
            }
            for item in sorted(items, key=lambda item: (item.namespace or "", item.name))
        ],
    }
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"


def _written(status: Status) -> dict[str, Any]:
    return {key: value for key, value in status.write().items() if key in _KEYS and value not in ("", [])}


def read_state(text: str, filename: str) -> list[StateItem]:
    """Read a file. Raises StateFileError for anything that would lose or invent something."""
    try:
        body = json.loads(text)
    except ValueError as error:
        message = f"{filename}: is not JSON: {error}."
        raise StateFileError(message) from error
    if not isinstance(body, dict) or body.get("kind") != KIND or not isinstance(body.get("items"), list):
        message = f"{filename}: is not a file that 'crontabber state export' writes (kind {KIND})."
        raise StateFileError(message)
    if body.get("apiVersion") != f"{GROUP}/{VERSION}":
        message = (
            f"{filename}: has apiVersion {body.get('apiVersion')!r}; this program reads {GROUP}/{VERSION}."
        )
        raise StateFileError(message)
    items = [
        _item(entry, f"{filename}: item {number}") for number, entry in enumerate(body["items"], start=1)
    ]
    places = set()
    for item in items:
        if (item.namespace, item.name) in places:
            message = f"{filename}: {item.place} is there twice; remove one."
            raise StateFileError(message)
        places.add((item.namespace, item.name))
    return items


def _item(entry: object, place: str) -> StateItem:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("status"), Mapping):
        message = f"{place}: must be an object with name and status."
        raise StateFileError(message)
    name, namespace, raw = entry.get("name"), entry.get("namespace"), entry["status"]
    for what, value in (("name", name), ("namespace", namespace)):
        if value is None and what == "namespace":
            continue
        if not isinstance(value, str) or not _is_object_name(value):
            message = f"{place}: {what} must be the name of a Kubernetes object, not {value!r}."
            raise StateFileError(message)
    try:
        status = _STATUS.validate_python({key: value for key, value in raw.items() if key in _KEYS})
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in detail["loc"])
        message = f"{place} ({name}): status.{where}: {detail['msg']}."
        raise StateFileError(message) from error
    return StateItem(namespace, str(name), travelling(status, status.settled_through))


def _is_object_name(text: str) -> bool:
    return len(text) < 254 and re.fullmatch(OBJECT_NAME.pattern, text) is not None
