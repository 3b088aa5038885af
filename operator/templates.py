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
from crontabber_operator.projection import resource_version
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
    _versions: dict[Key, int] = field(default_factory=dict)
    """The resourceVersion of the Deployment that each was learned from: a late event doesn't count."""
    _users: defaultdict[Key, set[Key]] = field(default_factory=lambda: defaultdict(set))
    _locks: defaultdict[Key, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    def saw_deployment(self, body: Body) -> set[Key]:
        """Take a Deployment from the watch; return the resources whose template it changed."""
        place = Key(body["metadata"]["namespace"], body["metadata"]["name"])
        if place not in self._users:
            return set()
        if rollout_is_complete(body):
            return self._learn(place, body, _template(body["spec"]["template"]))
        if isinstance(self._known.get(place), Unavailable):
            # It was missing or never rolled out, so no earlier rollout of it was completed.
            return self._learn(place, body, _not_rolled_out(place.name))
        return set()

    def lost_deployment(self, body: Body) -> set[Key]:
        """Take a Deployment that was deleted; return the resources that ran in its template."""
        place = Key(body["metadata"]["namespace"], body["metadata"]["name"])
        return self._learn(place, body, _not_found(place.name)) if place in self._users else set()

    def forget(self, user: Key) -> None:
        """A resource is gone."""
        for place in [place for place, users in self._users.items() if user in users]:
            self._users[place].discard(user)
            if not self._users[place]:
                del self._users[place]
                self._known.pop(place, None)
                self._versions.pop(place, None)
                self._locks.pop(place, None)

    async def find(self, place: Key, user: Key) -> Template | Unavailable:
        """Return the template of the Deployment's last completed rollout, or why there is none."""
        self._users[place].add(user)
        known = self._known.get(place)
        if known is not None:
            return known
        async with self._locks[place]:
            if place not in self._known:
                await self._ask(place)
            return self._known[place]

    async def look_again(self) -> set[Key]:
        """Ask for all Deployments that are known; return the resources whose template changed."""
        concerned = set()
        for place in list(self._known):
            before = self._known.get(place)
            try:
                body = await self.cluster.get_deployment(place.namespace, place.name)
            except ApiError as error:
                if not error.not_found:
                    raise
                # What the watch showed while this was asked is newer.
                if place in self._known and self._known[place] is before:
                    self._known[place] = _not_found(place.name)
                    concerned |= self._users[place] if before != self._known[place] else set()
            else:
                concerned |= self.saw_deployment(body)
        return concerned

    def _learn(self, place: Key, body: Body, template: Template | Unavailable) -> set[Key]:
        version = resource_version(body)
        if version < self._versions.get(place, 0):
            return set()
        self._versions[place] = version
        if self._known.get(place) == template:
            return set()
        self._known[place] = template
        return set(self._users[place])

    async def _ask(self, place: Key) -> None:
        """Ask for a Deployment; what the watch showed meanwhile counts where it is newer."""
        try:
            body = await self.cluster.get_deployment(place.namespace, place.name)
        except ApiError as error:
            if not error.not_found:
                raise
            self._known.setdefault(place, _not_found(place.name))
            return
        if rollout_is_complete(body):
            found: Template | Unavailable = _template(body["spec"]["template"])
        else:
            labels = (body["spec"].get("selector") or {}).get("matchLabels") or {}
            former = completed_template(body, await self.cluster.list_replica_sets(place.namespace, labels))
            found = _template(former) if former is not None else _not_rolled_out(place.name)
        self._learn(place, body, found)


def _not_rolled_out(name: str) -> Unavailable:
    return Unavailable(
        "WebAppNotRolledOut",
        f"Deployment {name} has not completed a rollout yet; the job is scheduled as soon as it has. "
        f"See 'kubectl rollout status deployment/{name}'.",
    )


def _not_found(name: str) -> Unavailable:
    return Unavailable(
        "WebAppNotFound",
        f"Deployment {name} does not exist in this namespace. Create it, or set spec.webapp.name or spec.template.",
    )


def _template(body: Body) -> Template:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return Template(hashlib.sha256(text.encode()).hexdigest()[:16], body)
