"""Find the pod template that each job runs in, and wake the jobs when it changed.

Only the templates of workloads that a job refers to are held. The rules are in workloads.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crontabber_operator.cluster import ApiError, Cluster
from crontabber_operator.observed import Unavailable
from crontabber_operator.store import Key
from crontabber_operator.workloads import completed_template, rollout_is_complete

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Template:
    """A pod template and what tells it from others."""

    version: str
    body: Body


@dataclass(slots=True)
class Templates:
    """The templates of the workloads that jobs refer to."""

    cluster: Cluster
    _known: dict[Key, Template | Unavailable] = field(default_factory=dict)
    _users: defaultdict[Key, set[Key]] = field(default_factory=lambda: defaultdict(set))
    _locks: defaultdict[Key, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    def saw_deployment(self, body: Body) -> set[Key]:
        """Take a Deployment from the watch; return the resources whose template it changed."""
        place = Key(body["metadata"]["namespace"], body["metadata"]["name"])
        if place not in self._users or not rollout_is_complete(body):
            return set()
        return self._learn(place, _template(body["spec"]["template"]))

    def lost_deployment(self, place: Key) -> set[Key]:
        """Take the deletion of a Deployment; return the resources that ran in its template."""
        if place not in self._users:
            return set()
        return self._learn(place, _not_found(place.name))

    def forget(self, user: Key) -> None:
        """A resource is gone."""
        for place in [place for place, users in self._users.items() if user in users]:
            self._users[place].discard(user)
            if not self._users[place]:
                del self._users[place]
                self._known.pop(place, None)
                self._locks.pop(place, None)

    async def find(self, place: Key, user: Key) -> Template | Unavailable:
        """Return the template of the Deployment's last completed rollout, or why there is none."""
        self._users[place].add(user)
        known = self._known.get(place)
        if known is not None:
            return known
        async with self._locks[place]:
            known = self._known.get(place)
            if known is None:
                known = await self._ask(place)
                self._known.setdefault(place, known)
            return self._known[place]

    def _learn(self, place: Key, template: Template | Unavailable) -> set[Key]:
        if self._known.get(place) == template:
            return set()
        self._known[place] = template
        return set(self._users[place])

    async def _ask(self, place: Key) -> Template | Unavailable:
        try:
            body = await self.cluster.get_deployment(place.namespace, place.name)
        except ApiError as error:
            if error.not_found:
                return _not_found(place.name)
            raise
        if rollout_is_complete(body):
            return _template(body["spec"]["template"])
        labels = (body["spec"].get("selector") or {}).get("matchLabels") or {}
        former = completed_template(body, await self.cluster.list_replica_sets(place.namespace, labels))
        if former is not None:
            return _template(former)
        return Unavailable(
            "WebAppNotRolledOut",
            f"Deployment {place.name} has not completed a rollout yet; the job is scheduled as soon as it has. "
            f"See 'kubectl rollout status deployment/{place.name}'.",
        )


def _not_found(name: str) -> Unavailable:
    return Unavailable(
        "WebAppNotFound",
        f"Deployment {name} does not exist in this namespace. Create it, or set spec.webapp.name or spec.template.",
    )


def _template(body: Body) -> Template:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return Template(hashlib.sha256(text.encode()).hexdigest()[:16], body)
