"""Take the Lease, renew it, give it back; say who leads. The rules are in election.py.

Has a connection of its own, so that a renewal never waits behind the leader's other requests, and runs in a thread
of its own (campaign.py). Decides nothing about jobs: whoever is told to lead does that.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from kubernetes.aio import config

from crontabber_operator.cluster import ApiError, Cluster
from crontabber_operator.election import (
    DECIDES_SECONDS,
    LOOK_SECONDS,
    RENEW_SECONDS,
    Lease,
    Watch,
    given_back,
    renewed,
    taken,
)

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
"""An API server that doesn't answer in this time is asked again."""
PAUSE_MIN_SECONDS = 0.1
GIVE_BACK_SECONDS = 1.0
"""So long the operator's end waits for it."""
AGAIN_SECONDS = 60.0
"""So often it is told that the Lease can't be used."""
_SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Elector:
    """One operator's part in the election; `step` is to be called again and again."""

    def __init__(  # noqa: PLR0913 - what it needs of its surroundings
        self,
        cluster: Cluster,
        place: tuple[str, str],
        lead: Callable[[], None],
        follow: Callable[[], Awaitable[None]],
        *,
        identity: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        is_alive: Callable[[], bool] = lambda: True,
    ) -> None:
        """`place` is the Lease's namespace and name; `lead` begins deciding, `follow` ends it.

        `is_alive`: whether this operator could decide; otherwise the Lease is left to others.
        """
        self._is_alive = is_alive
        self._clock = clock
        self._cluster = cluster
        self._namespace, self._name = place
        self._lead = lead
        self._follow = follow
        self._identity = identity or own_identity()
        self._watch = Watch()
        self._leads = False
        self._until = 0.0
        """Until then nobody else may take the Lease."""
        self._trouble = ""
        self._is_refused = False
        self._told_at = float("-inf")
        self._told_holder = ""

    def may_write(self) -> bool:
        """Tell whether nobody else can hold the Lease at this very moment.

        Asked before each write: an operator that was frozen notices here that its time is over.
        """
        return self._clock() < self._until

    @property
    def leads(self) -> bool:
        """Whether this operator decides."""
        return self._leads

    @property
    def trouble(self) -> str:
        """Why the Lease can't be used; empty where it can."""
        return self._trouble

    @property
    def is_refused(self) -> bool:
        """Whether the API server is there and doesn't let this operator use the Lease."""
        return self._is_refused

    @property
    def standing(self) -> str:
        """Say in a few words who leads."""
        if self._leads:
            return "leader"
        holder = self._watch.lease.holder if self._watch.lease is not None else ""
        return f"standby; {holder or 'nobody'} leads" + (f"; {self._trouble}" if self._trouble else "")

    async def give_back(self) -> None:
        """Let another operator lead at once; this one has stopped deciding."""
        lease, self._leads, self._until = self._watch.lease, False, 0.0
        if lease is None or lease.holder != self._identity:
            return
        try:
            async with asyncio.timeout(GIVE_BACK_SECONDS):
                await self._write(given_back(datetime.now(UTC)))
        except (ApiError, TimeoutError) as error:
            logger.info("The Lease %s/%s could not be given back: %s", self._namespace, self._name, error)
        else:
            logger.info("The Lease %s/%s is given back", self._namespace, self._name)

    async def step(self) -> float:
        """Look or renew once; return for how many seconds to wait then."""
        asked_at = self._clock()
        try:
            async with asyncio.timeout(self._patience(asked_at)):
                is_held = self._is_alive() and await (self._renew() if self._leads else self._stand())
        except (ApiError, TimeoutError) as error:
            self._tell_trouble(error)
            is_held = False
        else:
            self._trouble, self._is_refused, self._told_at = "", False, float("-inf")
        if is_held:
            self._until = asked_at + DECIDES_SECONDS
            if not self._leads:
                self._begin()
            # A slow API server must not let it run out between two renewals.
            return max(RENEW_SECONDS - (self._clock() - asked_at), PAUSE_MIN_SECONDS)
        if self._leads and (self._is_lost() or not self.may_write()):
            await self._end()
        return LOOK_SECONDS

    def _patience(self, now: float) -> float:
        """A leader gives up in time to stop deciding; one that was frozen still asks who leads now."""
        left = self._until - now
        return min(ANSWER_SECONDS, left) if self._leads and left > 0 else ANSWER_SECONDS

    async def _renew(self) -> bool:
        try:
            await self._write(renewed(datetime.now(UTC)))
        except ApiError as error:
            if not (error.guard_failed or error.not_found):
                raise
            # Somebody changed it, perhaps only a label: look.
            return await self._stand()
        return True

    async def _stand(self) -> bool:
        """Look at the Lease, and take it where it is free."""
        body = await self._cluster.find_lease(self._namespace, self._name)
        now = self._clock()
        self._watch = self._watch.saw(Lease.read(body) if body is not None else None, now)
        self._tell_holder()
        if not self._watch.may_take(self._identity, now):
            return False
        wall_clock = datetime.now(UTC)
        spec = taken(self._identity, self._watch.lease, wall_clock)
        try:
            if self._watch.exists and self._leads and not self._is_lost():
                await self._write(renewed(wall_clock))
            elif self._watch.exists:
                await self._write(spec)
            else:
                body = await self._cluster.create_lease(self._namespace, self._name, spec)
                self._watch = self._watch.saw(Lease.read(body), now)
        except ApiError as error:
            if error.status == 409 or error.not_found:
                return False  # somebody else was faster
            raise
        return True

    async def _write(self, change: Mapping[str, object]) -> None:
        lease = self._watch.lease
        version = lease.version if lease is not None else ""
        body = await self._cluster.change_lease(self._namespace, self._name, version, change)
        self._watch = self._watch.saw(Lease.read(body), self._clock())

    def _is_lost(self) -> bool:
        return self._watch.lease is None or self._watch.lease.holder != self._identity

    def _begin(self) -> None:
        self._leads = True
        logger.info("%s leads now (Lease %s/%s)", self._identity, self._namespace, self._name)
        self._lead()

    async def _end(self) -> None:
        self._leads, self._until = False, 0.0
        why = "somebody else has it" if self._is_lost() else "it could not be renewed"
        logger.warning("The Lease %s/%s is lost: %s; standing by", self._namespace, self._name, why)
        await self._follow()

    def _tell_holder(self) -> None:
        holder = self._watch.lease.holder if self._watch.lease is not None else ""
        if holder not in (self._told_holder, self._identity, ""):
            logger.info("Standing by: %s leads (Lease %s/%s)", holder, self._namespace, self._name)
        self._told_holder = holder

    def _tell_trouble(self, error: Exception) -> None:
        self._trouble = f"the Lease {self._namespace}/{self._name} can't be used: {str(error) or 'no answer'}"
        self._is_refused = isinstance(error, ApiError) and not error.transient
        now = self._clock()
        if now - self._told_at >= AGAIN_SECONDS:
            self._told_at = now
            logger.warning("%s", self._trouble)


def place_of(name: str) -> tuple[str, str]:
    """Return namespace and name of the Lease that `[NAMESPACE/]NAME` means; by default where the operator is."""
    namespace, slash, alone = name.rpartition("/")
    return (namespace if slash else _own_namespace()), alone


def _own_namespace() -> str:
    try:
        return _SERVICE_ACCOUNT_NAMESPACE.read_text(encoding="utf-8").strip() or "default"
    except OSError:
        pass
    try:
        _, current = config.list_kube_config_contexts()  # type: ignore[no-untyped-call]
    except config.ConfigException:
        return "default"
    return str((current.get("context") or {}).get("namespace") or "default")


def own_identity(environment: Mapping[str, str] = os.environ) -> str:
    """Return what to write into the Lease: the pod's name, so that a restarted container goes on at once."""
    return environment.get("POD_NAME") or f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
