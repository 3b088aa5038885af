"""What the watches have shown: an object is only ever replaced by a newer one, and stays deleted."""

from __future__ import annotations

from typing import Any

import pytest

from crontabber_operator import store as store_module
from crontabber_operator.manifests import Owner
from crontabber_operator.models import InvalidSpec
from crontabber_operator.store import Key, Kind, Store

KEY = Key("space", "job")
OWNER = Owner("space", "job", "owner-uid")


def resource(
    version: int = 1, *, uid: str = "owner-uid", generation: int = 1, **changes: Any
) -> dict[str, Any]:
    """Build a CrontabberJob."""
    return {
        "metadata": {
            "name": "job",
            "namespace": "space",
            "uid": uid,
            "resourceVersion": str(version),
            "generation": generation,
            "creationTimestamp": "2026-06-03T09:30:00Z",
            "annotations": {"crontabber.dev/reset": "", "team": "a", "crontabber.dev/odd": 7},
        },
        "spec": {"command": "work", "frequency": "1h"},
        **changes,
    }


def job(
    version: int = 1,
    *,
    uid: str = "job-uid",
    name: str = "job-1",
    owner: str = "cronjob-uid",
    label: str | None = "job",
) -> dict[str, Any]:
    """Build a Job that the controller made."""
    controller = {"kind": "CronJob", "uid": owner, "controller": True}
    return {
        "metadata": {
            "name": name,
            "namespace": "space",
            "uid": uid,
            "resourceVersion": str(version),
            "creationTimestamp": "2026-06-03T10:00:00Z",
            "labels": {"crontabber.dev/job": label} if label else {},
            "annotations": {},
            "ownerReferences": [controller],
        },
        "spec": {"suspend": True, "template": {"metadata": {"annotations": {"crontabber.dev/run-time": ""}}}},
        "status": {},
    }


def cronjob(
    version: int = 1, *, uid: str = "cronjob-uid", owner: str = "owner-uid", ours: bool = True
) -> dict[str, Any]:
    """Build a CronJob of the resource's name."""
    return {
        "metadata": {
            "name": "job",
            "namespace": "space",
            "uid": uid,
            "resourceVersion": str(version),
            "creationTimestamp": "2026-06-03T09:30:00Z",
            "labels": {"crontabber.dev/job": "job"} if ours else {},
            "ownerReferences": [{"kind": "CrontabberJob", "uid": owner, "controller": True}] if ours else [],
        },
        "spec": {"schedule": "0 * * * *", "suspend": version > 5},
    }


@pytest.fixture
def known() -> Store:
    """Return a store with a resource, its CronJob and a Job, each at version 5."""
    filled = Store()
    filled.put_resource(resource(5))
    filled.put_cronjob(cronjob(5))
    filled.put_job(job(5))
    return filled


def versions(store: Store) -> tuple[str | None, str | None, list[str]]:
    """Return the versions of all that is known of the resource."""
    found, live = store.resource(KEY), store.cronjob(OWNER)
    return (
        found.resource_version if found is not None else None,
        live.resource_version if live is not None else None,
        [run.resource_version for run in store.runs(OWNER)],
    )


def test_a_late_event_replaces_nothing_newer(known: Store) -> None:
    """What the operator wrote is put here from the answer; the watch shows older states afterwards."""
    known.put_resource(resource(4))
    known.put_cronjob(cronjob(4))
    known.put_job(job(4))
    assert versions(known) == ("5", "5", ["5"])


def test_a_newer_state_replaces_an_older_one(known: Store) -> None:
    """Also ten after nine: versions are numbers."""
    for version in (9, 10):
        known.put_resource(resource(version))
        known.put_cronjob(cronjob(version))
        known.put_job(job(version))
    assert versions(known) == ("10", "10", ["10"])


def test_what_was_deleted_does_not_come_back_by_a_late_event(known: Store) -> None:
    """Whatever version that has."""
    known.drop_job(KEY, "job-uid")
    known.drop_cronjob(KEY, "cronjob-uid")
    known.drop_resource(KEY, "owner-uid")
    known.put_resource(resource(9))
    known.put_cronjob(cronjob(9))
    known.put_job(job(9))
    assert versions(known) == (None, None, [])


def test_what_the_api_server_itself_shows_exists(known: Store) -> None:
    """An answer is no late event."""
    known.drop_job(KEY, "job-uid")
    known.drop_cronjob(KEY, "cronjob-uid")
    known.put_cronjob(cronjob(9), asked_for=True)
    known.put_job(job(9), asked_for=KEY)
    assert versions(known) == ("5", "9", ["9"])


def test_a_late_deletion_of_a_former_object_deletes_nothing_else(known: Store) -> None:
    """One of the same name, with another uid."""
    known.drop_job(KEY, "former")
    known.drop_cronjob(KEY, "former")
    known.drop_resource(KEY, "former")
    assert versions(known) == ("5", "5", ["5"])


def test_deletions_are_remembered_within_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator runs for months."""
    monkeypatch.setattr(store_module, "REMEMBERED_DELETIONS", 3)
    store = Store()
    for number in range(5):
        store.drop_job(KEY, f"uid-{number}")
    store.put_cronjob(cronjob())
    for number in range(5):
        store.put_job(job(uid=f"uid-{number}", name=f"job-{number}"))
    assert [run.uid for run in store.runs(OWNER)] == ["uid-0", "uid-1"]


def test_jobs_are_those_of_this_very_resource(known: Store) -> None:
    """Not of a former one of its name, whose CronJob had another uid."""
    known.put_job(job(6, uid="other", name="job-2", owner="former-cronjob"))
    assert [run.uid for run in known.runs(OWNER)] == ["job-uid"]
    assert known.runs(Owner("space", "job", "new-owner")) == ()


def test_the_jobs_of_a_cronjob_that_is_not_ours_are_not_ours() -> None:
    """It has the resource's name only."""
    store = Store()
    store.put_cronjob(cronjob(ours=False), asked_for=True)
    store.put_job(job())
    assert store.runs(OWNER) == ()
    live = store.cronjob(OWNER)
    assert live is not None
    assert live.ours is False


def test_a_cronjob_is_ours_by_the_uid_of_the_resource(known: Store) -> None:
    """The same CronJob isn't that of a resource that was made anew."""
    ours, theirs = known.cronjob(OWNER), known.cronjob(Owner("space", "job", "new-owner"))
    assert ours is not None
    assert theirs is not None
    assert (ours.ours, theirs.ours) == (True, False)


def test_a_job_without_our_label_is_taken_only_when_asked_for(known: Store) -> None:
    """Somebody removed the label; the watch doesn't show it any more."""
    assert known.put_job(job(6, uid="other", label=None)) is None
    assert len(known.runs(OWNER)) == 1
    assert known.put_job(job(6, uid="other", label=None), asked_for=KEY) == KEY
    assert len(known.runs(OWNER)) == 2


def test_what_is_no_job_of_ours_is_not_remembered(known: Store) -> None:
    """It has our label, and an owner that we don't know."""
    body = job(6, uid="other")
    body["metadata"]["ownerReferences"] = []
    known.put_job(body)
    assert len(known.runs(OWNER)) == 1


def test_a_job_known_to_have_been_started_stays_so_until_it_changes(known: Store) -> None:
    """Nothing in it shows that."""
    known.mark_released(KEY, "job-uid")
    known.mark_released(KEY, "no such")
    assert [run.released for run in known.runs(OWNER)] == [True]
    known.put_job(job(6))
    assert [run.released for run in known.runs(OWNER)] == [False]


def test_a_spec_is_read_once_for_each_generation(known: Store) -> None:
    """A status changes often, a spec hardly ever."""
    before = known.resource(KEY)
    known.put_resource(resource(6, spec={"command": "unread", "frequency": "1h"}))
    same = known.resource(KEY)
    known.put_resource(resource(7, generation=2, spec={"command": "read", "frequency": "1h"}))
    after = known.resource(KEY)
    assert before is not None
    assert same is not None
    assert after is not None
    assert same.spec is before.spec
    assert not isinstance(after.spec, InvalidSpec)
    assert after.spec.command == "read"


def test_a_resource_made_anew_has_its_own_spec(known: Store) -> None:
    """Also where its generation is that of the former one."""
    known.put_resource(resource(9, uid="new-owner", spec={"command": "new", "frequency": "1h"}))
    found = known.resource(KEY)
    assert found is not None
    assert not isinstance(found.spec, InvalidSpec)
    assert (found.spec.command, found.owner.uid) == ("new", "new-owner")


def test_a_mistake_in_a_spec_is_kept_as_such() -> None:
    """It is told; nothing is decided."""
    store = Store()
    store.put_resource(resource(spec={"command": "work"}))
    found = store.resource(KEY)
    assert found is not None
    assert isinstance(found.spec, InvalidSpec)
    with pytest.raises(TypeError):
        found.job()


def test_a_resource_is_the_cores_job(known: Store) -> None:
    """With the version that it is decided at."""
    found = known.resource(KEY)
    assert found is not None
    job_read = found.job()
    assert (job_read.namespace, job_read.name, job_read.uid, job_read.resource_version) == (
        "space",
        "job",
        "owner-uid",
        "5",
    )
    assert found.annotations == {"crontabber.dev/reset": ""}
    assert not found.deleting


def test_a_resource_that_is_being_deleted_says_so() -> None:
    """Nothing is made for it any more."""
    body = resource()
    body["metadata"]["deletionTimestamp"] = "2026-06-03T10:00:00Z"
    store = Store()
    store.put_resource(body)
    found = store.resource(KEY)
    assert found is not None
    assert found.deleting


def test_everything_known_can_be_listed_and_dropped_by_kind(known: Store) -> None:
    """To find what was deleted while no watch was on."""
    assert list(known.keys()) == [KEY]
    for kind, uid in ((Kind.RESOURCE, "owner-uid"), (Kind.CRONJOB, "cronjob-uid"), (Kind.JOB, "job-uid")):
        assert known.known(kind) == {"space": [(KEY, uid)]}
        known.drop(kind, KEY, uid)
        assert known.known(kind) == {}
    assert list(known.keys()) == []


def test_a_foreign_cronjob_is_forgotten_with_the_resource() -> None:
    """No watch would ever tell that it is gone; one of ours is kept until then."""
    store = Store()
    store.put_cronjob(cronjob(ours=False), asked_for=True)
    store.forget(KEY)
    assert store.cronjob(OWNER) is None
    store.put_cronjob(cronjob(uid="another"))
    store.forget(KEY)
    assert store.cronjob(OWNER) is not None


def test_who_runs_is_told_by_one_mapping_until_that_changes() -> None:
    """Whoever compares it with the one before need not look into it; and what was told does not change any more."""
    store, told = Store(), []

    def put(version: int, name: str, *, runs: bool) -> None:
        ongoing = {"slot": "2026-06-03T10:00:00Z", "job": "job-1", "uid": "u", "attempt": 1}
        body = resource(version, uid=name, status={"ongoing": ongoing} if runs else {})
        body["metadata"]["name"] = name
        body["spec"] = {
            "command": "work",
            "frequency": "1h",
            "passLastSuccess": True,
            "concurrencyGroup": "db",
        }
        store.put_resource(body)
        told.append((store.occupied("space"), dict(store.occupied("space"))))

    put(1, "a", runs=True)
    put(2, "a", runs=True)
    put(3, "b", runs=False)
    assert told[0][0] is told[1][0] is told[2][0]
    put(4, "b", runs=True)
    put(5, "a", runs=False)
    put(6, "b", runs=False)
    assert [sorted(key.name for key in then) for _, then in told] == [["a"]] * 3 + [["a", "b"], ["b"], []]
    assert told[3][1] == {Key("space", "a"): "db", Key("space", "b"): "db"}
    assert [now == then for now, then in told] == [True] * 6


# --- What is news ---------------------------------------------------------------------------------------


def test_a_version_that_is_known_is_no_news() -> None:
    """The event of a write whose answer was taken changes nothing; any newer version does, and a deletion."""
    store = Store()
    for version in (1, 1, 2, 1):
        store.put_resource(resource(version))
        store.put_job({**job(version), "status": {"active": version - 1}})
        store.put_cronjob(cronjob(version))
    assert store.changes(KEY) == 6
    store.drop_job(KEY, "job-uid")
    assert store.changes(KEY) == 7
    assert store.changes(Key("space", "another")) == 0


def test_a_job_that_tells_nothing_new_is_no_news() -> None:
    """The Job controller writes each a few times for itself alone; only the version is kept, which guards deletions."""
    store = Store()
    store.put_resource(resource())
    store.put_cronjob(cronjob())
    store.put_job(job(1))
    before = store.changes(KEY)
    condition = {"type": "Suspended", "status": "True"}
    store.put_job({**job(2), "status": {"conditions": [condition], "uncountedTerminatedPods": {}}})
    assert store.changes(KEY) == before
    assert [run.resource_version for run in store.runs(OWNER)] == ["2"]
    assert store.version(Kind.JOB, KEY, "job-uid") == 2
    store.put_job(job(3, owner="another"))
    assert store.changes(KEY) == before + 1
    assert store.runs(OWNER) == ()


def test_what_was_learned_of_a_job_outlives_the_event_of_the_same_version() -> None:
    """That it was released is not seen in it, and was asked for."""
    store = Store()
    store.put_resource(resource())
    store.put_cronjob(cronjob())
    store.put_job(job())
    store.mark_released(KEY, "job-uid")
    store.put_job(job())
    assert [run.released for run in store.runs(OWNER)] == [True]


def test_a_forgotten_resource_is_counted_anew() -> None:
    """Nothing is kept of what is gone."""
    store = Store()
    store.put_resource(resource())
    store.drop_resource(KEY, "owner-uid")
    store.forget(KEY)
    assert store.changes(KEY) == 0
