"""Whether the watches show what the operator writes (echoes.py). Decides nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from crontabber_operator.echoes import Echoes
from crontabber_operator.manifests import JOB_LABEL
from crontabber_operator.models import KIND
from crontabber_operator.projection import owner_name, resource_version
from crontabber_operator.store import Key, Kind, Store

Body = Mapping[str, Any]

ECHO_SECONDS = 120.0
"""A watch that was cut goes on, or begins anew, much sooner."""
_KINDS = {KIND: Kind.RESOURCE, "CronJob": Kind.CRONJOB, "Job": Kind.JOB}


class Watching:
    """Compares what was written with what the watches show."""

    def __init__(self, store: Store) -> None:
        """`store` knows what was shown already."""
        self._store = store
        self._echoes: Echoes[tuple[Kind, Key]] = Echoes()

    def wrote(self, body: Body) -> None:
        """Take an answer to a write, before it is put into the store."""
        kind = _KINDS.get(body.get("kind", ""))
        metadata = body.get("metadata") or {}
        if kind is None or (kind is not Kind.RESOURCE and JOB_LABEL not in (metadata.get("labels") or {})):
            return
        name = owner_name(body) if kind is Kind.JOB else metadata["name"]
        version, key = resource_version(body), Key(metadata["namespace"], name or "")
        # The watch may have been faster; and what changed nothing has no echo.
        if self._store.version(kind, key, metadata["uid"]) < version:
            self._echoes.wrote((kind, key), metadata["uid"], version, time.monotonic())

    def saw(self, body: Body) -> None:
        """Take what a watch has shown, deletions too."""
        self._echoes.heard(body["metadata"]["uid"], resource_version(body), time.monotonic())

    def seems_wrong(self) -> list[str]:
        """Return what looks as if nothing was shown any more."""
        now = time.monotonic()
        while (late := self._echoes.late(now, ECHO_SECONDS)) is not None:
            kind, key = late.what
            if self._store.version(kind, key, late.uid):
                return [f"the watch of {kind} shows nothing"]
            self._echoes.forget(late.uid)  # it was deleted while the watch was interrupted
        return []
