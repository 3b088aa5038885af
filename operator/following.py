"""What commands print, in the operator's log: which runs are told, how many at once, and what a restart finds.

A Listener: it goes by what each pass looks at, so an event that was lost or that came twice changes nothing. At
most so many outputs are followed; those beyond take turns in reading what there is. Nothing here holds up the
operator's work, but that a Job is not pruned before its output was read.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from crontabber_operator.cluster import ApiError, Cluster
from crontabber_operator.follower import AGAIN_SECONDS, Around, Follower
from crontabber_operator.listening import Listener
from crontabber_operator.models import InvalidSpec, Output
from crontabber_operator.observed import Run
from crontabber_operator.output_marks import Marks, state_folder
from crontabber_operator.output_progress import Mark, is_recorded, to_tell
from crontabber_operator.pod_lists import PodLists
from crontabber_operator.settings import Settings
from crontabber_operator.store import Key, Resource

logger = logging.getLogger(__name__)

FOLLOWED_AT_ONCE: Final = 100
READ_AT_ONCE: Final = 8
READS_A_SECOND: Final = 50
"""So many of the runs beyond are read in a second, each in its turn."""
CLOSE_SECONDS: Final = 3.0
"""So long the operator's end waits until it is written down how far everything was told."""


class Following(Listener):
    """Follows the output of all runs. Make it in the event loop that it is used in."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        wake: Callable[[Key], None],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._cluster = cluster
        self._default = settings.output
        self._wake = wake
        self._environment = environment
        self._since = datetime.now(UTC).replace(microsecond=0)
        self._followers: dict[str, Follower] = {}
        """By the Job's uid."""
        self._uids: dict[Key, set[str]] = {}
        self._left: list[Follower] = []
        """What was being told when this operator stopped to lead."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._made: Around | None = None
        self._closing = False

    # --- What is heard -----------------------------------------------------------------------------------

    def leading(self, leads: bool) -> None:
        """Who leads tells. What another operator has ended meanwhile, it has told."""
        if leads:
            for follower in self._left:
                self._around.marks.remove(follower.run.uid)
                if follower.run.finished is None:
                    self._around.marks.keep(follower.run.uid, follower.mark)
            self._left = []
            return
        for task in self._tasks:
            task.cancel()
        self._left = list(self._followers.values())
        self._followers.clear()
        self._uids.clear()

    def looked(self, resource: Resource, runs: Sequence[Run]) -> None:
        """Begin with the runs that there is something to tell of; let the others know what has changed."""
        key = Key.of(resource.owner)
        wanted = self._wanted(resource)
        known = self._uids.get(key) or set()
        if self._closing or (wanted is Output.NONE and not known):
            return
        for run in runs:
            follower = self._followers.get(run.uid)
            if follower is None:
                self._consider(key, resource, run, wanted)
                continue
            follower.see(run, wanted)
            if follower.is_over and is_recorded(run, resource.status):
                self._drop(key, run.uid)
        for uid in known - {run.uid for run in runs}:
            self._drop(key, uid)

    def needs(self, run: Run) -> bool:
        """Whether a run's output is still to be read."""
        follower = self._followers.get(run.uid)
        return follower is not None and follower.needs_it

    def forgotten(self, key: Key) -> None:
        """Its pods go, too."""
        for uid in list(self._uids.get(key, ())):
            self._drop(key, uid)

    async def close(self) -> None:
        """Stop, and write down at the Jobs how far they were told, for the next operator."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._made is not None:
            await self._made.pods.close()
        left = [one for one in (*self._left, *self._followers.values()) if one.has_more_to_tell_of]
        writes = {asyncio.create_task(self._leave(one)) for one in left}
        if writes:
            _, late = await asyncio.wait(writes, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    # --- What is done ------------------------------------------------------------------------------------

    def _wanted(self, resource: Resource) -> Output:
        given = None if isinstance(resource.spec, InvalidSpec) else resource.spec.output
        return given or self._default

    def _consider(self, key: Key, resource: Resource, run: Run, wanted: Output) -> None:
        if not run.released or wanted is Output.NONE:
            return
        mark = self._mark_of(run)
        if not to_tell(run, resource.status, wanted, mark, self._since):
            return
        follower = Follower(key, run, wanted, mark or Mark.at_first(run, resource.status))
        self._followers[run.uid] = follower
        self._uids.setdefault(key, set()).add(run.uid)
        task = asyncio.create_task(self._tell(follower), name=f"output of {run.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _mark_of(self, run: Run) -> Mark | None:
        """Return how far a run was told, by the file of an operator that was killed or the word of one that ended."""
        kept, told = self._around.marks.find(run.uid), Mark.read(run.output_told)
        if kept is None or told is None:
            return kept or told
        return kept if kept.reaches(told) else told

    async def _tell(self, follower: Follower) -> None:
        try:
            await follower.tell(self._around)
        except Exception:
            logger.exception("%s/%s: the output can't be told", *follower.key)
            follower.done = True
        if follower.run.output_told:
            # Left by a former operator; nobody may go on from there.
            await self._leave(follower)
        follower.is_over = True

    async def _leave(self, follower: Follower) -> None:
        run, mark = follower.run, follower.mark.written()
        if run.output_told == mark:
            return
        try:
            await self._cluster.mark_output(follower.key.namespace, run.name, run.uid, mark)
        except ApiError as error:
            if not error.not_found:
                logger.warning(
                    "%s/%s: how far Job %s was told can't be noted: %s", *follower.key, run.name, error
                )

    def _drop(self, key: Key, uid: str) -> None:
        self._followers.pop(uid).vanish()
        self._uids[key].discard(uid)
        if not self._uids[key]:
            del self._uids[key]
        self._around.marks.remove(uid)

    @property
    def _around(self) -> Around:
        """Made when it is first needed: where no output is told, no file is."""
        if self._made is None:
            folder, reads = state_folder(self._environment), asyncio.Semaphore(READ_AT_ONCE)
            self._made = Around(
                cluster=self._cluster,
                pods=PodLists(self._cluster, reads),
                marks=Marks(folder / "output" if folder is not None else None),
                streams=asyncio.Semaphore(FOLLOWED_AT_ONCE),
                reads=reads,
                turn=asyncio.Lock(),
                pause_seconds=lambda: max(AGAIN_SECONDS, len(self._tasks) / READS_A_SECOND),
                wake=self._wake,
            )
        return self._made
