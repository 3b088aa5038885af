"""When all that there is was listed, and when it was listed again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crontabber_operator.listings import Listings
from crontabber_operator.store import Kind

CLUSTER = None


class Session:
    """What comes of listings."""

    def __init__(self) -> None:
        self.taken: list[tuple[Kind, Mapping[str, Any], str | None]] = []
        self.completions = 0
        self.again: list[Kind] = []
        self.listings = Listings(lambda *what: self.taken.append(what), self.complete, self.again.append)

    def complete(self) -> None:
        """All was listed."""
        self.completions += 1

    def begin(self, *kinds: Kind, namespace: str | None = CLUSTER) -> None:
        """Streams begin."""
        for kind in kinds:
            self.listings.begins(kind, namespace)

    def end(self, *kinds: Kind, namespace: str | None = CLUSTER) -> int:
        """Their listings are over; return how often all was complete."""
        for kind in kinds:
            self.listings.ends(kind, namespace)
        return self.completions


def test_what_is_listed_or_changes_is_taken_as_it_comes() -> None:
    """Before anything is complete."""
    session = Session()
    session.begin(Kind.JOB)
    for type_ in (None, "MODIFIED"):
        session.listings.shows(Kind.JOB, {"name": "job"}, type_)
    assert session.taken == [(Kind.JOB, {"name": "job"}, None), (Kind.JOB, {"name": "job"}, "MODIFIED")]


def test_all_is_listed_when_each_kind_is() -> None:
    """Also where one begins late: kopf starts the streams one after the other. Deployments are not waited for."""
    session = Session()
    session.begin(Kind.DEPLOYMENT, Kind.RESOURCE, Kind.JOB)
    assert session.end(Kind.RESOURCE, Kind.JOB) == 0
    session.begin(Kind.CRONJOB)
    assert session.end(Kind.CRONJOB) == 1
    assert session.end(Kind.DEPLOYMENT) == 1
    assert session.again == []


def test_each_namespace_is_waited_for() -> None:
    """Where only some are watched, each has streams of its own."""
    session = Session()
    kinds = (Kind.RESOURCE, Kind.CRONJOB, Kind.JOB)
    for namespace in ("a", "b"):
        session.begin(*kinds, namespace=namespace)
    assert session.end(*kinds, namespace="a") == 0
    assert session.end(*kinds[:2], namespace="b") == 0
    assert session.end(kinds[2], namespace="b") == 1


def test_a_listing_that_was_interrupted_is_waited_for() -> None:
    """It begins anew."""
    session = Session()
    session.begin(Kind.RESOURCE, Kind.CRONJOB, Kind.JOB)
    session.end(Kind.RESOURCE, Kind.CRONJOB)
    session.begin(Kind.JOB)
    assert session.completions == 0
    assert session.end(Kind.JOB) == 1
    assert session.again == []


def test_a_namespace_that_goes_before_it_was_listed_holds_up_nothing() -> None:
    """Its streams are ended."""
    session = Session()
    kinds = (Kind.RESOURCE, Kind.CRONJOB, Kind.JOB)
    for namespace in ("a", "b"):
        session.begin(*kinds, namespace=namespace)
    session.end(*kinds, namespace="a")
    for kind in kinds:
        session.listings.leaves(kind, "b")
    assert session.completions == 1


def test_what_is_listed_again_is_told() -> None:
    """However soon; a namespace that comes later is listed for the first time."""
    session = Session()
    session.begin(Kind.RESOURCE, Kind.CRONJOB, Kind.JOB)
    session.end(Kind.RESOURCE, Kind.CRONJOB)
    session.begin(Kind.CRONJOB)
    session.end(Kind.CRONJOB)
    assert session.again == [Kind.CRONJOB]
    session.end(Kind.JOB)
    session.begin(Kind.JOB, namespace="new")
    assert session.end(Kind.JOB, namespace="new") == 1
    assert session.again == [Kind.CRONJOB]
