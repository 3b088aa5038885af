"""A small world to try the core in: an API server, the CronJob and Job controllers, people, and operators.

The objects are the API's own (dicts made by manifests.py, read by projection.py and store.py), and the guards
of the writes are those of the real API server: uid, resourceVersion, JSON patch tests, what may be changed in a
Job. Each operator sees the world through watches that can lag, each kind by itself; it can crash between any
two of its writes. `Operator.work` does what reconciler.py does.

The world checks each write for what must never happen, and raises `Broken`.
"""

from __future__ import annotations

import copy
import itertools
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from crontabber_operator import backfill, commands
from crontabber_operator.decision import ApplyCronJob, Decision, MoveLastSchedule, NewRun, Release
from crontabber_operator.manifests import (
    ATTEMPT,
    INSTANTIATE,
    LAST_SUCCESS,
    PREFIX,
    RUN_TIME,
    SCHEDULED,
    SLOT,
    THROUGH,
    Manifest,
    Owner,
    Plan,
    cronjob_patch,
    native_name,
    one_off,
    one_off_name,
    plan,
    release_patch,
    run_now,
)
from crontabber_operator.models import GROUP, KIND, VERSION, Result, Spec, Status
from crontabber_operator.observed import Attempt, CronJobSeen, Desired, Evidence, Observed, Run, Unavailable
from crontabber_operator.projection import schedule_key
from crontabber_operator.schedule import parse_schedule
from crontabber_operator.store import Key, Resource, Store
from crontabber_operator.times import format_time, parse_time

OWNER = Owner("space", "job", "owner-uid")
KEY = Key(OWNER.namespace, OWNER.name)
STEPS_MAX = 80
"""An operator that takes more steps without a rest will never rest."""


class Broken(AssertionError):  # noqa: N818 - it is an assertion
    """A promise was broken."""


class Crash(Exception):  # noqa: N818 - it is no error
    """The operator was killed."""


class Refused(Exception):  # noqa: N818 - as the API server says it
    """The API server refused a write."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


@dataclass
class Ledger:
    """What really happened, whatever the books say."""

    succeeded: dict[datetime, str] = field(default_factory=dict)
    """Slots that succeeded since the last mark or reset, with the uid of the Job that did it."""
    ignored: set[str] = field(default_factory=set)
    """Jobs that had been started when the job was marked or reset: they don't count."""
    resumed_at: datetime | None = None
    """Nothing up to here may start: the job was suspended."""
    unsure: set[datetime] = field(default_factory=set)
    """Slots that succeeded, but somebody deleted the Job before that was recorded: they may run again."""
    recorded: set[tuple[str, datetime, Result]] = field(default_factory=set)
    """Attempts that are in the history or were: the Job's name, when it ended and how."""
    claimed_at: int = 0
    """The resource's generation at the newest claim: an edit after it changes which slots there are."""


class World:
    """Everything but the operators' memories."""

    def __init__(self, spec: Mapping[str, Any], start: datetime) -> None:
        self.now = start
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)
        self.template = 1
        self.available = True
        self.can_batch = True
        self.jobs: dict[str, Manifest] = {}
        self.pods: dict[str, list[tuple[datetime, Result]]] = {}
        """The failed pods of a Job, by its uid."""
        self.good_until: dict[str, str] = {}
        """How far a batch came, by its Job's uid."""
        self.progress: dict[str, datetime] = {}
        """How far a batch has come that goes on, by its Job's uid."""
        self.suspended_by_hand: set[str] = set()
        self.cronjob: Manifest | None = None
        self.ledger = Ledger()
        self.operators: list[Operator] = []
        self.acting: Operator | None = None
        """The operator that writes just now; None: Kubernetes or a person."""
        self.changes = 0
        self._plans: dict[tuple[str, int], Plan] = {}
        self.resource: Manifest = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {
                "namespace": OWNER.namespace,
                "name": OWNER.name,
                "uid": OWNER.uid,
                "creationTimestamp": format_time(start),
                "generation": 1,
                "annotations": {},
            },
            "spec": dict(spec),
        }
        self._stamp(self.resource)

    # --- What there is -------------------------------------------------------------------------------------

    @property
    def spec(self) -> Spec:
        """The spec as it is now."""
        return Spec.read(self.resource["spec"], name=OWNER.name)

    @property
    def status(self) -> Status:
        """The status as it is written."""
        return Status.read(self.resource.get("status"))

    @property
    def cursor(self) -> datetime:
        """What is settled, by the books."""
        status, spec = self.status, self.spec
        if status.settled_through is not None:
            return status.settled_through
        if spec.backfill and spec.backfill_since is not None:
            return spec.backfill_since - timedelta(seconds=1)
        return parse_time(self.resource["metadata"]["creationTimestamp"])

    @property
    def generation(self) -> int:
        """How often the spec was edited."""
        generation: int = self.resource["metadata"]["generation"]
        return generation

    def plan(self, spec: Spec) -> Plan:
        """The CronJob that a spec asks for, with the template of now."""
        key = repr(spec), self.template
        if key not in self._plans:
            pod = {"spec": {"containers": [{"name": "web", "image": f"app:{self.template}"}]}}
            self._plans[key] = plan(OWNER, spec, pod)
        return self._plans[key]

    def started(self) -> Iterator[Manifest]:
        """The Jobs of slots that were started and have not ended."""
        for job in self.jobs.values():
            if job["status"].get("startTime") and not _ended(job) and not _by_hand(job):
                yield job

    # --- The API server ------------------------------------------------------------------------------------

    def _stamp(self, body: Manifest) -> None:
        body["metadata"]["resourceVersion"] = str(next(self._versions))
        self.changes += 1

    def _tell(self, kind: str, event: str, body: Manifest) -> None:
        for operator in self.operators:
            operator.watches[kind].append((event, body))

    def _put_job(self, body: Manifest, event: str = "MODIFIED") -> Manifest:
        self._stamp(body)
        self.jobs[body["metadata"]["name"]] = body
        self._tell("jobs", event, body)
        return body

    def _put_cronjob(self, body: Manifest) -> Manifest:
        self._stamp(body)
        self.cronjob = body
        self._tell("cronjobs", "MODIFIED", body)
        return body

    def _put_resource(self, body: Manifest) -> Manifest:
        self._stamp(body)
        self.resource = body
        self._tell("resources", "MODIFIED", body)
        return body

    def create_job(self, manifest: Manifest) -> Manifest:
        """POST a Job."""
        if manifest["metadata"]["name"] in self.jobs:
            raise Refused(409)
        body = copy.deepcopy(manifest)
        body["metadata"] |= {
            "uid": f"uid-{next(self._uids)}",
            "creationTimestamp": format_time(self.now),
        }
        body["status"] = {}
        self.pods[body["metadata"]["uid"]] = []
        if not body["spec"].get("suspend"):
            self._start(body)
        return self._put_job(body, "ADDED")

    def patch_job(self, name: str, patch: list[Manifest]) -> Manifest:
        """PATCH a Job: what was started once can't be changed but for `suspend`."""
        before = self._job(name)
        body = apply_patch(before, patch)
        if body["spec"]["template"] != before["spec"]["template"] and before["status"].get("startTime"):
            raise Refused(422)
        if before["spec"].get("suspend") and not body["spec"].get("suspend"):
            self._check_release(body)
            self._start(body)
        return self._put_job(body)

    def delete_job(self, name: str, uid: str, version: str | None = None) -> None:
        """DELETE a Job with its pods."""
        job = self._job(name)
        if job["metadata"]["uid"] != uid or version not in (None, job["metadata"]["resourceVersion"]):
            raise Refused(409)
        del self.jobs[name]
        self.changes += 1
        self._tell("jobs", "DELETED", job)

    def _job(self, name: str) -> Manifest:
        if name not in self.jobs:
            raise Refused(404)
        return self.jobs[name]

    def write_status(self, version: str, status: Manifest, *, command: bool) -> Manifest:
        """PUT the status, at the version that was decided on. `command`: a mark or reset is done by it."""
        if version != self.resource["metadata"]["resourceVersion"]:
            raise Refused(409)
        if Status.read(status).write() != status:
            raise Broken("a status that is not read as it was written")
        self._check_status(self.status, Status.read(status), command=command)
        return self._put_resource(
            {**self.resource, "metadata": {**self.resource["metadata"]}, "status": status}
        )

    def remove_annotations(self, version: str, names: Iterable[str]) -> Manifest:
        """PATCH annotations away, at the version that was decided on."""
        if version != self.resource["metadata"]["resourceVersion"]:
            raise Refused(409)
        present = dict(self.resource["metadata"]["annotations"])
        for name in names:
            present.pop(name, None)
        metadata = {**self.resource["metadata"], "annotations": present}
        return self._put_resource({**self.resource, "metadata": metadata})

    def create_cronjob(self, manifest: Manifest) -> Manifest:
        """POST the CronJob."""
        if self.cronjob is not None:
            raise Refused(409)
        body = copy.deepcopy(manifest)
        body["metadata"] |= {
            "uid": f"uid-{next(self._uids)}",
            "creationTimestamp": format_time(self.now),
        }
        body["status"] = {}
        return self._put_cronjob(body)

    def patch_cronjob(self, patch: list[Manifest]) -> Manifest:
        """PATCH the CronJob."""
        if self.cronjob is None:
            raise Refused(404)
        return self._put_cronjob(apply_patch(self.cronjob, patch))

    def move_last_schedule(self, version: str, to: datetime) -> Manifest:
        """PATCH its lastScheduleTime, at this version."""
        if self.cronjob is None:
            raise Refused(404)
        if version != self.cronjob["metadata"]["resourceVersion"]:
            raise Refused(409)
        status = {**self.cronjob["status"], "lastScheduleTime": format_time(to)}
        return self._put_cronjob({**self.cronjob, "metadata": {**self.cronjob["metadata"]}, "status": status})

    # --- Kubernetes' controllers ---------------------------------------------------------------------------

    def cronjob_controller(self, *, status_lost: bool = False) -> None:
        """Sync the CronJob: Forbid, the newest missed slot only; `status_lost`: its status write met a 409."""
        cronjob = self.cronjob
        if cronjob is None:
            return
        status = dict(cronjob["status"])
        controlled = [job for job in self.jobs.values() if _controlled(job)]
        for job in controlled:
            done = job["status"].get("completionTime")
            if done and done > status.get("lastSuccessfulTime", ""):
                status["lastSuccessfulTime"] = done
        active = [job["metadata"]["name"] for job in controlled if not _ended(job)]
        slot = self._to_fire(cronjob)
        if slot is not None and not active and self._fire(cronjob, slot):
            if status_lost:
                return
            status["lastScheduleTime"] = format_time(slot)
            active = [native_name(OWNER.name, slot)]
        status["active"] = [{"name": name} for name in active]
        if status != cronjob["status"]:
            self._put_cronjob({**cronjob, "metadata": {**cronjob["metadata"]}, "status": status})

    def _to_fire(self, cronjob: Manifest) -> datetime | None:
        spec = cronjob["spec"]
        if spec["suspend"]:
            return None
        told = cronjob["status"].get("lastScheduleTime") or cronjob["metadata"]["creationTimestamp"]
        after = parse_time(told)
        deadline = spec.get("startingDeadlineSeconds")
        if spec["schedule"].startswith("@every"):
            interval = _every(spec["schedule"])
            newest = after + interval * ((self.now - after) // interval)
        else:
            slots = parse_schedule(spec["schedule"], spec["timeZone"])
            newest = slots.newest_until(self.now) or after
        late = deadline is not None and newest <= self.now - timedelta(seconds=deadline)
        return newest if newest > after and not late else None

    def _fire(self, cronjob: Manifest, slot: datetime) -> bool:
        name = native_name(OWNER.name, slot)
        if name in self.jobs:
            return _controlled(self.jobs[name])
        self.create_job(self._from_cronjob(cronjob, name, {SCHEDULED: format_time(slot)}))
        return True

    def _from_cronjob(self, cronjob: Manifest, name: str, annotations: dict[str, str]) -> Manifest:
        made = copy.deepcopy(cronjob["spec"]["jobTemplate"])
        metadata = {
            "name": name,
            "namespace": OWNER.namespace,
            "labels": made["metadata"]["labels"],
            "annotations": {**made["metadata"]["annotations"], **annotations},
            "ownerReferences": [
                {"kind": "CronJob", "name": OWNER.name, "uid": cronjob["metadata"]["uid"], "controller": True}
            ],
        }
        return {"metadata": metadata, "spec": made["spec"]}

    def _start(self, body: Manifest) -> None:
        """The Job controller makes the Job's pod."""
        self._check_start(body)
        body["status"] = {**body["status"], "startTime": format_time(self.now), "active": 1}

    def end_attempt(self, name: str, *, good: bool, good_slots: int = 0) -> None:
        """The pod of a Job ends; of a batch that fails, so many slots were good."""
        self.now += timedelta(seconds=1)
        body = copy.deepcopy(self.jobs[name])
        uid, status, now = body["metadata"]["uid"], body["status"], format_time(self.now)
        status["active"] = 0
        if good:
            status["completionTime"] = now
            status["conditions"] = [{"type": "Complete", "status": "True", "lastTransitionTime": now}]
            self._count_good(body, len(self._slots_of(body)))
        else:
            status["failed"] = status.get("failed", 0) + 1
            self.pods[uid].append((self.now, Result.FAILED))
            slots = self._slots_of(body)
            reached = slots.index(self.progress[uid]) + 1 if self.progress.get(uid) in slots else 0
            self._count_good(body, max(reached, min(good_slots, max(0, len(slots) - 1))))
            if status["failed"] > body["spec"]["backoffLimit"]:
                status["conditions"] = [
                    {
                        "type": "Failed",
                        "status": "True",
                        "reason": "BackoffLimitExceeded",
                        "lastTransitionTime": now,
                    }
                ]
        self._put_job(body)

    def go_on(self, name: str, good_slots: int) -> None:
        """A batch that runs reports how far it has come."""
        body = self.jobs[name]
        slots = self._slots_of(body)[:-1]
        if slots:
            good = slots[min(good_slots, len(slots) - 1)]
            uid = body["metadata"]["uid"]
            self.progress[uid] = max(good, self.progress.get(uid, good))
            self._count_good(body, slots.index(self.progress[uid]) + 1)

    def _count_good(self, body: Manifest, count: int) -> None:
        good = self._slots_of(body)[:count]
        uid = body["metadata"]["uid"]
        if good and len(self._slots_of(body)) > 1:
            self.good_until[uid] = format_time(good[-1])
        claim = self.status.ongoing
        counts = (self.spec.is_plain and _controlled(body)) or (claim is not None and claim.uid == uid)
        if uid not in self.ledger.ignored and counts:
            self.ledger.succeeded |= dict.fromkeys(good, uid)

    def _slots_of(self, body: Manifest) -> list[datetime]:
        if _by_hand(body):
            return []
        slot, through = _slot(body), _through(body)
        found = [slot]
        while found[-1] < through:
            following = self.spec.slots.next_after(found[-1])
            if following is None or following > through:
                break
            found.append(following)
        return found

    def retry(self, name: str) -> None:
        """The Job controller makes the next pod of a plain Job that failed."""
        body = copy.deepcopy(self.jobs[name])
        body["status"]["active"] = 1
        self._check_overlap(body)
        self._put_job(body)

    # --- People --------------------------------------------------------------------------------------------

    def annotate(self, **values: str) -> None:
        """Give a command."""
        given = {PREFIX + name.replace("_", "-"): value for name, value in values.items()}
        metadata = self.resource["metadata"]
        annotations = {**metadata["annotations"], **given}
        self._put_resource({**self.resource, "metadata": {**metadata, "annotations": annotations}})

    def edit(self, spec: Mapping[str, Any]) -> None:
        """Apply another spec."""
        if dict(spec) == self.resource["spec"]:
            return
        if Spec.read(spec).is_gated and self.spec.is_plain:
            self._forget_unrecorded()
        metadata = {**self.resource["metadata"], "generation": self.resource["metadata"]["generation"] + 1}
        self._put_resource({**self.resource, "metadata": metadata, "spec": dict(spec)})

    def delete_by_hand(self, name: str) -> None:
        """Delete a Job; if it succeeded and nobody has recorded that, it can't be known any more."""
        job = self.jobs[name]
        if _ended(job) or job["metadata"]["uid"] in self.progress:
            self._forget_unrecorded()
        self.delete_job(name, job["metadata"]["uid"])

    def _forget_unrecorded(self) -> None:
        """What ran well and is not in the books yet can't be known any more, or doesn't count as it was run."""
        unsure = {slot for slot in self.ledger.succeeded if slot > self.cursor}
        self.ledger.unsure |= unsure
        for slot in unsure:
            del self.ledger.succeeded[slot]

    def suspend_by_hand(self, name: str, *, suspend: bool) -> None:
        """Suspend a Job that was started, or resume it."""
        body = copy.deepcopy(self.jobs[name])
        body["spec"]["suspend"] = suspend
        body["status"]["active"] = 0 if suspend else 1
        if suspend:
            self.suspended_by_hand.add(body["metadata"]["uid"])
        else:
            # Where a person had suspended both, it is that person who has them run side by side.
            self._check_overlap(body, ignored=self.suspended_by_hand)
        self._put_job(body)

    def create_from(self) -> None:
        """`kubectl create job --from=cronjob/…`."""
        if self.cronjob is not None:
            name = f"by-hand-{next(self._uids)}"
            self.create_job(self._from_cronjob(self.cronjob, name, {INSTANTIATE: "manual"}))

    # --- What must never happen ----------------------------------------------------------------------------

    def _check_overlap(self, body: Manifest, ignored: Collection[str] = ()) -> None:
        if _by_hand(body):
            return
        for other in self.started():
            if (
                other["metadata"]["uid"] != body["metadata"]["uid"]
                and other["metadata"]["uid"] not in ignored
                and other["status"].get("active")
                and self._could_be_known(other)
            ):
                raise Broken(f"{body['metadata']['name']} runs beside {other['metadata']['name']}")

    def _could_be_known(self, other: Manifest) -> bool:
        """Whether whoever acts had to know that a Job was started.

        What an operator started is known by its claim. What Kubernetes started itself, for a CronJob that was
        still a plain job's, is known to those whose watch has shown it; one-offs never to Kubernetes.
        """
        if self.acting is None:
            return _controlled(other) or len(self.operators) == 1
        if ATTEMPT in _annotations(other):
            return True
        seen = {run.uid: run for run in self.acting.store.runs(OWNER)}
        known = seen.get(other["metadata"]["uid"])
        return known is not None and known.running

    def _check_start(self, body: Manifest) -> None:
        self._check_overlap(body)
        if _by_hand(body):
            return
        slot = _slot(body)
        if slot in self.ledger.succeeded:
            raise Broken(f"slot {slot} succeeded already")
        if self.ledger.resumed_at is not None and slot <= self.ledger.resumed_at:
            raise Broken(f"slot {slot} was invented on resuming at {self.ledger.resumed_at}")

    def _check_release(self, body: Manifest) -> None:
        if _by_hand(body):
            return
        metadata, status, spec = body["metadata"], self.status, self.spec
        claim = status.ongoing
        if claim is None or claim.uid != metadata["uid"]:
            raise Broken(f"{metadata['name']} was released without a claim")
        others = (other for other in self.started() if other["metadata"]["uid"] != metadata["uid"])
        if any(self._could_be_known(other) for other in others):
            raise Broken(f"{metadata['name']} was released while another one is unfinished")
        if claim.slot <= self.cursor and self.ledger.claimed_at == self.generation:
            raise Broken(f"settled slot {claim.slot} was released")
        told = body["spec"]["template"]["metadata"]["annotations"]
        wanted = spec.written(_slot(body)), spec.written(status.last_success_time)
        if (told[RUN_TIME], told[LAST_SUCCESS]) != wanted:
            raise Broken(f"{metadata['name']} was told {told}, not {wanted}")
        if told[SLOT] != format_time(_slot(body)) or told[ATTEMPT] != str(claim.attempt):
            raise Broken(f"{metadata['name']} was told {told}")

    def _check_status(self, old: Status, new: Status, *, command: bool) -> None:
        self._check_history(old, new, command=command)
        if command:
            assert self.acting is not None
            seen = {run.uid for run in self.acting.store.runs(OWNER)}
            self.ledger.ignored |= {run.uid for run in self.acting.store.runs(OWNER) if run.released}
            # What ran and was not seen yet counts as if it had run afterwards.
            unseen = {
                slot: uid
                for slot, uid in self.ledger.succeeded.items()
                if uid in self.pods and uid not in seen
            }
            self.ledger.unsure = set(unseen)
            self.ledger.succeeded.clear()
            self.ledger.resumed_at = None
            return
        if old.last_success_time is not None and (
            new.last_success_time is None or new.last_success_time < old.last_success_time
        ):
            raise Broken(f"the last success moved back from {old.last_success_time}")
        self._check_cursor(old, new)
        self._check_missed(old, new)
        if new.ongoing is not None and (old.ongoing is None or old.ongoing.uid != new.ongoing.uid):
            self._check_claim(new)

    def _check_missed(self, old: Status, new: Status) -> None:
        """Where nothing was settled or edited, time only adds: what was told of a slot once, rightly, stays told."""
        assert self.acting is not None
        same = all(
            getattr(old, name) == getattr(new, name) for name in ("settled_through", "observed_generation")
        )
        due = self.spec.slots.count(self.cursor, self.now) if self.cursor < self.now else 0
        if same and not self.acting.skew and new.missed < old.missed <= due:
            raise Broken(f"{old.missed} slots were told as missed, and then {new.missed}")

    def _check_history(self, old: Status, new: Status, *, command: bool) -> None:
        count = next(n for n in range(11) if new.history[n:] == old.history[: len(new.history) - n])
        added = new.history[:count]
        for entry in added:
            if entry.finished is not None:
                key = entry.job, entry.finished, entry.result  # a batch can be good and bad
                if key in self.ledger.recorded:
                    raise Broken(f"attempt {entry.attempt} of {entry.job} was recorded twice")
                self.ledger.recorded.add(key)
            if "left no pod" in entry.message:
                raise Broken(f"a failure of {entry.job} was recorded that never was")
        failures = sum(1 for entry in added if entry.result is not Result.SUCCEEDED)
        moved_on = new.ongoing is not None and old.ongoing is not None and new.ongoing.slot > old.ongoing.slot
        healed = command or moved_on or any(entry.result is Result.SUCCEEDED for entry in added)
        if not healed and len(added) < 10 and new.error_count != old.error_count + failures:
            raise Broken(f"{failures} failures made {old.error_count} errors {new.error_count}")

    def _check_cursor(self, old: Status, new: Status) -> None:
        if new.settled_through == old.settled_through or new.settled_through is None:
            return
        before, after = self.cursor, new.settled_through
        if after < before:
            raise Broken(f"the cursor moved back from {before} to {after}")
        skipped = new.skipped - old.skipped
        if self.spec.backfill:
            least, most = self._unsucceeded(before, after)
            if not least <= skipped <= most and self.ledger.claimed_at == self.generation:
                raise Broken(f"{least} slots up to {after} did not succeed, {skipped} were skipped")
        elif after not in self.ledger.succeeded and after not in self.ledger.unsure and not skipped:
            if old.observed_generation == self.generation:
                raise Broken(f"{after} was settled for no reason")
            if self.cronjob is not None and self.cronjob["spec"]["suspend"] and not self.spec.suspend:
                self.ledger.resumed_at = after

    def _unsucceeded(self, after: datetime, until: datetime) -> tuple[int, int]:
        """Count the slots that did not succeed, without and with those that are not sure."""
        slots, least, most, slot = self.spec.slots, 0, 0, after
        while (following := slots.next_after(slot)) is not None and following <= until:
            slot = following
            most += slot not in self.ledger.succeeded
            least += slot not in self.ledger.succeeded and slot not in self.ledger.unsure
        return least, most

    def _check_claim(self, new: Status) -> None:
        claim = new.ongoing
        assert claim is not None
        self.ledger.claimed_at = self.generation
        if self.spec.is_plain:
            return
        before = new.settled_through or self.cursor
        if claim.slot <= before:
            raise Broken(f"settled slot {claim.slot} was claimed")
        if self.spec.backfill and claim.slot != self.spec.slots.next_after(before):
            raise Broken(f"slot {claim.slot} was claimed out of order after {before}")
        if self.spec.suspend:
            raise Broken("a suspended job's run was claimed")


# --- Operators ------------------------------------------------------------------------------------------


class Operator:
    """One operator process: what it has seen, and what reconciler.py does with it."""

    def __init__(self, world: World, skew_seconds: int = 0) -> None:
        self.world = world
        self.skew = timedelta(seconds=skew_seconds)
        self.crash_in: int | None = None
        self.idle = False
        self.wake_at: datetime | None = None
        self.start()

    def start(self) -> None:
        """Start (again): list everything, with nothing in memory."""
        self.store = Store()
        self.watches: dict[str, deque[tuple[str, Manifest]]] = {
            "resources": deque(),
            "jobs": deque(),
            "cronjobs": deque(),
        }
        self.gone: set[str] = set()
        self.absent: str | None = None
        self.replaced: set[str] = set()
        self.taken_names: set[str] = set()
        self.inspected: dict[str, tuple[tuple[int, bool], Evidence]] = {}
        self.progress: dict[str, datetime] = {}
        self.verified = ""
        self.store.put_resource(self.world.resource)
        for job in self.world.jobs.values():
            self.store.put_job(job)
        if self.world.cronjob is not None:
            self.store.put_cronjob(self.world.cronjob)

    def receive(self, *kinds: str) -> None:
        """Take in what the watches have shown, and what batches have said."""
        self.progress = dict(self.world.progress)
        for kind in kinds or tuple(self.watches):
            watch = self.watches[kind]
            while watch:
                event, body = watch.popleft()
                if kind == "resources":
                    self.store.put_resource(body)
                elif kind == "cronjobs":
                    self.store.put_cronjob(body)
                elif event == "DELETED":
                    self.store.drop_job(KEY, body["metadata"]["uid"])
                else:
                    self.store.put_job(body)

    @property
    def now(self) -> datetime:
        """Its own clock."""
        return self.world.now + self.skew

    def work(self, crash_in: int | None = None) -> None:
        """One pass; killed before the write of this number, where one is given."""
        self.crash_in, self.world.acting = crash_in, self
        try:
            self._pass()
        except Crash:
            self.start()
        finally:
            self.crash_in = self.world.acting = None

    def _write(self) -> World:
        """Each write goes through here."""
        if self.crash_in is not None:
            if self.crash_in <= 0:
                raise Crash
            self.crash_in -= 1
        return self.world

    def _pass(self) -> None:
        for _ in range(STEPS_MAX):
            resource = self.store.resource(KEY)
            assert resource is not None
            assert isinstance(resource.spec, Spec)
            job, seen = resource.job(), self._look(resource, resource.spec)
            step = commands.next_step(job, resource.annotations, seen, self.now)
            if step is not None:
                self._do_step(resource, resource.spec, step)
                continue
            decision = backfill.decide(job, seen, self.now)
            if self._answer(resource, decision):
                continue
            if not self._carry_out(resource, resource.spec, seen, decision):
                self.wake_at = decision.wake_at
                if decision.wake_at is not None and decision.wake_at <= self.now:
                    raise Broken(f"it wakes at {decision.wake_at}, which is past")
                return
        raise Broken("an operator that finds no rest")

    def _look(self, resource: Resource, spec: Spec) -> Observed:
        runs = self.store.runs(OWNER)
        cronjob = self.store.cronjob(OWNER)
        desired: Desired | Unavailable = Unavailable("WebAppNotFound", "gone")
        if self.world.available:
            made = self.world.plan(spec)
            desired = Desired(made.hash, made.template_hash, schedule_key(made.manifest["spec"]))
        return Observed(
            runs=runs,
            cronjob=cronjob,
            desired=desired,
            evidence={
                run.uid: self.inspected[run.uid][1]
                for run in runs
                if run.uid in self.inspected and self.inspected[run.uid][0] == _ending(run)
            },
            gone=frozenset(self.gone),
            absent=self.absent,
            replaced=frozenset(self.replaced),
            taken_names=frozenset(self.taken_names),
            progress=self.progress,
            can_batch=self.world.can_batch,
        )

    def _answer(self, resource: Resource, decision: Decision) -> bool:
        """Find out what a decision asks for first; True: there was a question."""
        claim = resource.status.ongoing
        if decision.confirm_gone is not None and claim is not None:
            self._ask_about(claim.job, decision.confirm_gone)
        for run in decision.inspect:
            self._inspect(run)
        if decision.look_for_job is not None:
            self._look_for(decision.look_for_job)
        return decision.asks

    def _carry_out(self, resource: Resource, spec: Spec, seen: Observed, decision: Decision) -> bool:
        cronjob, status = decision.cronjob, decision.status
        settles = status is not None and status.settled_through != resource.status.settled_through
        if isinstance(cronjob, ApplyCronJob) and (seen.cronjob is None or not settles):
            if self._do_cronjob(resource, seen, cronjob):
                return True
            cronjob = None
        for run in decision.discard:
            self._discard(run)
        for new in decision.create:
            self._create(spec, new)
        if decision.create:
            return True
        if status is not None and not self._write_status(resource, status, command=False):
            return True
        for release in decision.release:
            self._release(release)
        changed = bool(decision.discard or decision.release) or status is not None
        if cronjob is not None:
            changed |= self._do_cronjob(resource, seen, cronjob)
        for run in decision.prune:
            self._remove(run)
        return changed

    def _write_status(self, resource: Resource, status: Status, *, command: bool) -> bool:
        """Write the status; False: it changed since."""
        try:
            body = self._write().write_status(resource.resource_version, status.write(), command=command)
        except Refused:
            self.store.put_resource(self.world.resource)
            return False
        self.store.put_resource(body)
        claimed = status.ongoing.uid if status.ongoing is not None else None
        self.gone = {uid for uid in self.gone if uid == claimed}
        self.replaced &= self.gone
        self.taken_names.clear()
        return True

    def _do_step(self, resource: Resource, spec: Spec, step: commands.Step) -> None:
        if step.discard is not None:
            self._discard(step.discard)
            return
        if step.remove:
            try:
                body = self._write().remove_annotations(resource.resource_version, step.remove)
                self.store.put_resource(body)
            except Refused:
                self.store.put_resource(self.world.resource)
            return
        assert step.status is not None
        if step.run_now is not None and self.world.available:
            self._run_now(spec, resource.status, step.run_now)
        done = step.done
        accepted = done is not None and done.name != commands.RUN_NOW and done.result == commands.DONE
        self._write_status(resource, step.status, command=accepted)

    def _run_now(self, spec: Spec, status: Status, asked: commands.RunNow) -> None:
        manifest = run_now(
            OWNER,
            self.world.plan(spec),
            commands.run_now_name(OWNER.name, asked.command_id),
            extra_args=asked.extra_args,
            run_time=spec.written(asked.run_time),
            last_success=spec.written(status.last_success_time),
            at=format_time(asked.run_time),
        )
        try:
            self.store.put_job(self._write().create_job(manifest))
        except Refused as error:
            if error.status != 409:
                raise

    def _create(self, spec: Spec, new: NewRun) -> None:
        made, name = self.world.plan(spec), one_off_name(OWNER, new)
        try:
            body = self._write().create_job(one_off(OWNER, made, new))
        except Refused:
            body = self.world.jobs[name]
        self.store.put_job(body, asked_for=KEY)
        if all(run.name != name for run in self.store.runs(OWNER)):
            self.taken_names.add(name)

    def _discard(self, run: Run) -> None:
        try:
            self._write().delete_job(run.name, run.uid, run.resource_version)
        except Refused:
            self._ask_about(run.name, run.uid)
        else:
            self.store.drop_job(KEY, run.uid)
            self.gone.add(run.uid)
            self.replaced.add(run.uid)

    def _remove(self, run: Run) -> None:
        try:
            self._write().delete_job(run.name, run.uid)
        except Refused:
            self._ask_about(run.name, run.uid)
        self.store.drop_job(KEY, run.uid)

    def _release(self, release: Release) -> None:
        try:
            body = self._write().patch_job(release.run.name, release_patch(release))
        except Refused:
            self._ask_about(release.run.name, release.run.uid)
        else:
            self.store.put_job(body, asked_for=KEY)

    def _ask_about(self, name: str, uid: str) -> None:
        body = self.world.jobs.get(name)
        if body is not None and body["metadata"]["uid"] == uid:
            self.store.put_job(body, asked_for=KEY)
            if all(run.uid != uid for run in self.store.runs(OWNER)):
                self._look_again()  # it is the CronJob's, which may not be seen yet
            if any(run.uid == uid for run in self.store.runs(OWNER)):
                return
        self.store.drop_job(KEY, uid)
        self.gone.add(uid)

    def _look_for(self, name: str) -> None:
        body = self.world.jobs.get(name)
        if body is not None:
            self.store.put_job(body, asked_for=KEY)
        if all(run.name != name for run in self.store.runs(OWNER)):
            self.absent = name

    def _inspect(self, run: Run) -> None:
        failures = tuple(
            Attempt(result, "Boom", "boom", "", finished, finished)
            for finished, result in self.world.pods.get(run.uid, [])
        )
        good = self.world.good_until.get(run.uid)
        evidence = Evidence(
            failures=failures, good_started=run.started, last_good_slot=parse_time(good) if good else None
        )
        self.inspected[run.uid] = _ending(run), evidence

    def _do_cronjob(
        self, resource: Resource, seen: Observed, action: ApplyCronJob | MoveLastSchedule
    ) -> bool:
        live = seen.cronjob
        if isinstance(action, MoveLastSchedule):
            if live is not None:
                self._move_last_schedule(resource, live, action)
            return live is not None
        if action.only_suspend:
            patch: list[Manifest] = [{"op": "replace", "path": "/spec/suspend", "value": True}]
            self.store.put_cronjob(self._write().patch_cronjob(patch), asked_for=True)
            return True
        if not self.world.available:
            return False
        assert isinstance(resource.spec, Spec)
        self._apply(self.world.plan(resource.spec), exists=live is not None)
        return True

    def _move_last_schedule(self, resource: Resource, live: CronJobSeen, action: MoveLastSchedule) -> None:
        former = action.delete_first
        if action.fires is not None and (self._is_stale(resource) or self._has_fired(action.fires, former)):
            return
        if former is not None:
            self._remove(former)
            self.gone.add(former.uid)
            self.replaced.add(former.uid)
        try:
            body = self._write().move_last_schedule(live.resource_version, action.to)
        except Refused:
            self._look_again()
        else:
            self.store.put_cronjob(body)

    def _apply(self, made: Plan, *, exists: bool) -> None:
        if not exists:
            try:
                self.store.put_cronjob(self._write().create_cronjob(made.manifest), asked_for=True)
            except Refused:
                self._look_again()
            else:
                return
        self._look_again()
        assert self.world.cronjob is not None
        metadata = self.world.cronjob["metadata"]
        patch = cronjob_patch(made, metadata["uid"], metadata)
        self.store.put_cronjob(self._write().patch_cronjob(patch), asked_for=True)

    def _is_stale(self, resource: Resource) -> bool:
        """Read the resource anew before a slot is fired again: no write of the status guards that."""
        self.store.put_resource(self.world.resource)
        version: str = self.world.resource["metadata"]["resourceVersion"]
        return version != resource.resource_version

    def _has_fired(self, slot: datetime, former: Run | None) -> bool:
        body = self.world.jobs.get(native_name(OWNER.name, slot))
        if body is None or (former is not None and body["metadata"]["uid"] == former.uid):
            return False
        self.store.put_job(body, asked_for=KEY)
        return True

    def _look_again(self) -> None:
        if self.world.cronjob is not None:
            self.store.put_cronjob(self.world.cronjob, asked_for=True)


# --- Reading bodies -------------------------------------------------------------------------------------


def apply_patch(body: Manifest, patch: list[Manifest]) -> Manifest:
    """Apply a JSON patch; a test that fails is 422."""
    result = copy.deepcopy(body)
    for step in patch:
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
        holder = result
        for part in way:
            holder = holder[part]
        if step["op"] == "test":
            if holder.get(last) != step["value"]:
                raise Refused(422)
        else:
            holder[last] = copy.deepcopy(step["value"])
    return result


def _annotations(body: Manifest) -> dict[str, str]:
    annotations: dict[str, str] = body["metadata"].get("annotations") or {}
    return annotations


def _controlled(body: Manifest) -> bool:
    return any(one.get("controller") for one in body["metadata"]["ownerReferences"])


def _by_hand(body: Manifest) -> bool:
    annotations = _annotations(body)
    return INSTANTIATE in annotations or f"{PREFIX}run-now" in annotations


def _ended(body: Manifest) -> bool:
    return bool(body["status"].get("conditions"))


def _slot(body: Manifest) -> datetime:
    annotations = _annotations(body)
    return parse_time(annotations.get(SCHEDULED) or annotations[SLOT])


def _through(body: Manifest) -> datetime:
    told = _annotations(body).get(THROUGH)
    return parse_time(told) if told else _slot(body)


def _every(text: str) -> timedelta:
    number, unit = int(text.split()[1][:-1]), text[-1]
    return timedelta(minutes=number) if unit == "m" else timedelta(hours=number)


def _ending(run: Run) -> tuple[int, bool]:
    return run.failed_pods, run.finished is not None
