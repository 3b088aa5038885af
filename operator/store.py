"""What the watches have shown, in memory, by resource.

An object is only ever replaced by a newer one: what the operator wrote itself is put here from the API
server's answer, and the watch may show older states afterwards. Nothing is decided here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from crontabber_operator import commands
from crontabber_operator.admission import occupies
from crontabber_operator.manifests import PREFIX, Owner
from crontabber_operator.models import GROUP, PLURAL, VERSION, InvalidSpec, Spec, Status
from crontabber_operator.observed import CronJobSeen, Job, Run
from crontabber_operator.projection import owner_name, read_cronjob, read_run, resource_version
from crontabber_operator.times import parse_time

Body = Mapping[str, Any]

REMEMBERED_DELETIONS = 20_000


class Kind(StrEnum):
    """What is watched."""

    RESOURCE = PLURAL
    CRONJOB = "cronjobs"
    JOB = "jobs"
    DEPLOYMENT = "deployments"


PLACES = {
    Kind.RESOURCE: (GROUP, VERSION, PLURAL),
    Kind.JOB: ("batch", "v1", Kind.JOB),
    Kind.CRONJOB: ("batch", "v1", Kind.CRONJOB),
    Kind.DEPLOYMENT: ("apps", "v1", Kind.DEPLOYMENT),
}
"""Group, version and plural of what is watched."""


class Key(NamedTuple):
    """A resource's place."""

    namespace: str
    name: str

    @classmethod
    def of(cls, owner: Owner) -> Key:
        """Return the place of an owner."""
        return cls(owner.namespace, owner.name)


@dataclass(frozen=True, slots=True)
class Resource:
    """A CrontabberJob as the API server has it."""

    owner: Owner
    version: int
    resource_version: str
    generation: int
    created: datetime
    spec: Spec | InvalidSpec
    status: Status
    annotations: Mapping[str, str]
    """Only crontabber's own."""
    deleting: bool

    def job(self) -> Job:
        """Return it as the core reads it; its spec must be valid."""
        if isinstance(self.spec, InvalidSpec):
            raise TypeError(self.owner.name)
        return Job(
            namespace=self.owner.namespace,
            name=self.owner.name,
            uid=self.owner.uid,
            resource_version=self.resource_version,
            generation=self.generation,
            created=self.created,
            spec=self.spec,
            status=self.status,
            is_commanded=self.is_commanded,
        )

    @property
    def is_commanded(self) -> bool:
        """Tell whether a mark-success or reset is still to be done."""
        return not commands.MOVE_CURSOR.isdisjoint(commands.pending(self.annotations, self.status))


_NONE: Mapping[Key, str | None] = {}


class _KnownRun(NamedTuple):
    version: int
    owners: frozenset[str]
    run: Run

    def tells_as(self, former: _KnownRun) -> bool:
        """Tell whether nothing changed that a decision depends on: half of what the Job controller writes is such."""
        same = replace(self.run, resource_version=former.run.resource_version)
        return self.owners == former.owners and same == former.run


class _KnownCronJob(NamedTuple):
    version: int
    owners: frozenset[str]
    watched: bool
    """It has our label; others are only asked for."""
    seen: CronJobSeen


@dataclass(slots=True)
class Store:
    """Everything known, by the key of the CrontabberJob that it is for."""

    _resources: dict[Key, Resource] = field(default_factory=dict)
    _runs: dict[Key, dict[str, _KnownRun]] = field(default_factory=dict)
    _cronjobs: dict[Key, _KnownCronJob] = field(default_factory=dict)
    _occupied: dict[str, dict[Key, str | None]] = field(default_factory=dict)
    """By namespace: the resources that run, or are about to, each with its concurrencyGroup."""
    _occupied_as_told: dict[str, Mapping[Key, str | None]] = field(default_factory=dict)
    """Copies, made when somebody asks: without groups and limits nobody does, and each change would copy all."""
    _deleted: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _changes: dict[Key, int] = field(default_factory=dict)

    def changes(self, key: Key) -> int:
        """Count the changes so far to what is known of a resource."""
        return self._changes.get(key, 0)

    def resource(self, key: Key) -> Resource | None:
        """Return the resource, if it is known."""
        return self._resources.get(key)

    def keys(self) -> Iterator[Key]:
        """Yield the keys of all resources."""
        yield from list(self._resources)

    def runs(self, owner: Owner) -> tuple[Run, ...]:
        """Return the Jobs that were made for this very resource."""
        key = Key(owner.namespace, owner.name)
        cronjob = self._cronjobs.get(key)
        uids = {owner.uid}
        if cronjob is not None and owner.uid in cronjob.owners:
            uids.add(cronjob.seen.uid)
        return tuple(known.run for known in self._runs.get(key, {}).values() if known.owners & uids)

    def cronjob(self, owner: Owner) -> CronJobSeen | None:
        """Return the CronJob of the resource's name."""
        known = self._cronjobs.get(Key(owner.namespace, owner.name))
        if known is None:
            return None
        ours = owner.uid in known.owners
        former = known.seen.former and not ours
        if (known.seen.ours, known.seen.former) == (ours, former):
            return known.seen
        return replace(known.seen, ours=ours, former=former)

    def version(self, kind: Kind, key: Key, uid: str) -> int:
        """Return the resourceVersion that is known of an object; 0 where it isn't known."""
        found: Resource | _KnownCronJob | _KnownRun | None
        if kind is Kind.RESOURCE:
            resource = self._resources.get(key)
            found = resource if resource is not None and resource.owner.uid == uid else None
        elif kind is Kind.CRONJOB:
            cronjob = self._cronjobs.get(key)
            found = cronjob if cronjob is not None and cronjob.seen.uid == uid else None
        else:
            found = self._runs.get(key, {}).get(uid)
        return found.version if found is not None else 0

    def occupied(self, namespace: str) -> Mapping[Key, str | None]:
        """Return the resources of a namespace that run (admission.py), each with its concurrencyGroup.

        The same mapping as long as nothing of it changes, and another one when it does.
        """
        told = self._occupied_as_told.get(namespace)
        if told is None and namespace in self._occupied:
            told = self._occupied_as_told[namespace] = dict(self._occupied[namespace])
        return _NONE if told is None else told

    def put(self, kind: Kind, body: Body) -> None:
        """Take an object of a kind that is kept, unless a newer one is known."""
        if kind is Kind.RESOURCE:
            self.put_resource(body)
        elif kind is Kind.CRONJOB:
            self.put_cronjob(body)
        elif kind is Kind.JOB:
            self.put_job(body)

    def put_resource(self, body: Body) -> Key:
        """Take a CrontabberJob, unless a newer one is known."""
        metadata = body["metadata"]
        key = Key(metadata["namespace"], metadata["name"])
        known = self._resources.get(key)
        version = resource_version(body)
        if metadata["uid"] in self._deleted or (known is not None and known.version >= version):
            return key
        self._resources[key] = _read_resource(body, version, known)
        self._changed(key)
        return key

    def put_job(self, body: Body, *, asked_for: Key | None = None) -> Key | None:
        """Take a Job, unless a newer one is known; return whose it is.

        `asked_for`: this is the API server's answer about a Job of that resource, whose label may be gone,
        and not an event that may be late.
        """
        key = asked_for or _owner_key(body)
        uid = body["metadata"]["uid"]
        if asked_for is not None:
            self._deleted.pop(uid, None)
        version = resource_version(body)
        if key is None or uid in self._deleted or self.version(Kind.JOB, key, uid) >= version:
            return key
        run = read_run(body)
        if run is not None:
            runs = self._runs.setdefault(key, {})
            known, seen = runs.get(uid), _KnownRun(version, _owners(body), run)
            runs[uid] = seen
            if known is None or not seen.tells_as(known):
                self._changed(key)
        return key

    def mark_released(self, key: Key, uid: str) -> None:
        """A Job turned out to have been started before, though nothing in it shows that."""
        known = self._runs.get(key, {})
        if uid in known:
            known[uid] = known[uid]._replace(run=replace(known[uid].run, released=True))
            self._changed(key)

    def put_cronjob(self, body: Body, *, asked_for: bool = False) -> Key:
        """Take a CronJob, ours or not, unless a newer one is known (`asked_for` as in `put_job`)."""
        metadata = body["metadata"]
        if asked_for:
            self._deleted.pop(metadata["uid"], None)
        key = Key(metadata["namespace"], metadata["name"])
        version = resource_version(body)
        before = self._cronjobs.get(key)
        if metadata["uid"] in self._deleted or (before is not None and before.version >= version):
            return key
        seen = read_cronjob(body, Owner(key.namespace, key.name, ""))
        if seen is None:
            return key
        watched = owner_name(body) is not None
        self._cronjobs[key] = _KnownCronJob(version, _owners(body), watched, seen)
        self._changed(key)
        return key

    def drop_resource(self, key: Key, uid: str) -> None:
        """Forget a CrontabberJob that was deleted."""
        self._bury(uid)
        known = self._resources.get(key)
        if known is not None and known.owner.uid == uid:
            del self._resources[key]
            self._changed(key)

    def drop_job(self, key: Key, uid: str) -> None:
        """Forget a Job that was deleted."""
        self._bury(uid)
        known = self._runs.get(key, {})
        known.pop(uid, None)
        if not known:
            self._runs.pop(key, None)
        self._changed(key)

    def drop_cronjob(self, key: Key, uid: str) -> None:
        """Forget a CronJob that was deleted."""
        self._bury(uid)
        known = self._cronjobs.get(key)
        if known is not None and known.seen.uid == uid:
            del self._cronjobs[key]
            self._changed(key)

    def known(self, kind: Kind) -> dict[str, list[tuple[Key, str]]]:
        """Return key and uid of all objects of a kind, by their namespace."""
        pairs: Iterable[tuple[Key, str]] = ()
        if kind is Kind.RESOURCE:
            pairs = ((key, resource.owner.uid) for key, resource in self._resources.items())
        elif kind is Kind.CRONJOB:
            pairs = ((key, cronjob.seen.uid) for key, cronjob in self._cronjobs.items())
        elif kind is Kind.JOB:
            pairs = ((key, uid) for key, runs in self._runs.items() for uid in runs)
        found: dict[str, list[tuple[Key, str]]] = {}
        for key, uid in pairs:
            found.setdefault(key.namespace, []).append((key, uid))
        return found

    def drop(self, kind: Kind, key: Key, uid: str) -> None:
        """Forget an object that was deleted."""
        {Kind.RESOURCE: self.drop_resource, Kind.CRONJOB: self.drop_cronjob, Kind.JOB: self.drop_job}[kind](
            key, uid
        )

    def forget(self, key: Key) -> None:
        """Forget what the watches don't show, now that the resource is gone: what isn't labelled as ours."""
        cronjob = self._cronjobs.get(key)
        if cronjob is not None and not cronjob.watched:
            del self._cronjobs[key]
        self._changes.pop(key, None)

    def _changed(self, key: Key) -> None:
        self._changes[key] = self._changes.get(key, 0) + 1
        self._mind_place(key)

    def _mind_place(self, key: Key) -> None:
        resource = self._resources.get(key)
        is_occupied, group = False, None  # without a place it has no group, either
        if resource is not None and isinstance(resource.spec, InvalidSpec):
            is_occupied = resource.status.ongoing is not None
        elif resource is not None and isinstance(resource.spec, Spec):
            is_occupied = occupies(resource.spec, resource.status, self.runs(resource.owner))
            group = resource.spec.concurrency_group if is_occupied else None
        before = self._occupied.get(key.namespace, {})
        if is_occupied == (key in before) and before.get(key) == group:
            return
        self._occupied_as_told.pop(key.namespace, None)
        if is_occupied:
            self._occupied.setdefault(key.namespace, {})[key] = group
            return
        del before[key]
        if not before:
            del self._occupied[key.namespace]

    def _bury(self, uid: str) -> None:
        """Remember a deletion, so that a late event doesn't bring the object back."""
        self._deleted[uid] = None
        while len(self._deleted) > REMEMBERED_DELETIONS:
            self._deleted.popitem(last=False)


def _owner_key(body: Body) -> Key | None:
    name = owner_name(body)
    return Key(body["metadata"]["namespace"], name) if name is not None else None


def _owners(body: Body) -> frozenset[str]:
    return frozenset(one.get("uid", "") for one in body["metadata"].get("ownerReferences") or [])


def _read_resource(body: Body, version: int, before: Resource | None) -> Resource:
    metadata = body["metadata"]
    owner = Owner(metadata["namespace"], metadata["name"], metadata["uid"])
    generation = int(metadata.get("generation") or 0)
    spec: Spec | InvalidSpec
    if before is not None and before.owner == owner and before.generation == generation:
        spec = before.spec
    else:
        try:
            spec = Spec.read(body.get("spec"), name=owner.name)
        except InvalidSpec as error:
            spec = error
    return Resource(
        owner=owner,
        version=version,
        resource_version=metadata.get("resourceVersion", ""),
        generation=generation,
        created=parse_time(metadata["creationTimestamp"]),
        spec=spec,
        status=Status.read(body.get("status")),
        annotations={
            key: value
            for key, value in (metadata.get("annotations") or {}).items()
            if key.startswith(PREFIX) and isinstance(value, str)
        },
        deleting=metadata.get("deletionTimestamp") is not None,
    )
