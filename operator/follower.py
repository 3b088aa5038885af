"""Tell the output of one run from its pods' first line to their last, whatever breaks in between.

It goes by what exists: which pods there are, whether their containers have ended, and up to which line they were
told. A stream that ended proves nothing; a pod was told when its log was read to the end after its container
had ended. Which runs are told, and how many at once, is decided in following.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from crontabber_operator import output_progress as progress
from crontabber_operator.batches import pod_nonce, read_marker
from crontabber_operator.cluster import ApiError, Cluster
from crontabber_operator.logs import tell_output
from crontabber_operator.models import Output
from crontabber_operator.observed import Run
from crontabber_operator.output_lines import SECOND, Line, LineReader, Position
from crontabber_operator.output_marks import Marks
from crontabber_operator.output_progress import NOBODY, Container, Mark, Pod, Stage
from crontabber_operator.pod_lists import PodLists
from crontabber_operator.store import Key
from crontabber_operator.times import format_time

logger = logging.getLogger(__name__)

START_SECONDS: Final = 10.0
"""So long a pod that does not run, as far as the Job shows, is left alone before it is looked at again."""
AGAIN_SECONDS: Final = 2.0
"""So long the end of a container is waited for whose output has ended."""
DRAIN_SECONDS: Final = 5.0
"""So long a stream goes on after the run has ended; what is left is read without following."""
FOLLOW_IDLE_SECONDS: Final = 300.0
"""A stream that is silent for so long is asked for anew: a connection can be dead without a word."""
READ_IDLE_SECONDS: Final = 60.0
FIRST_DELAY_SECONDS: Final = 1.0
LONGEST_DELAY_SECONDS: Final = 15.0
GIVE_UP_SECONDS: Final = 600.0
"""So long the output of a run that has ended is tried to be read; until then its pods are kept."""
LINES_A_TURN: Final = 50
"""After so many lines, of all followers together, the operator's other work has its turn."""


@dataclass(frozen=True, slots=True)
class Around:
    """What the followers of an operator share."""

    cluster: Cluster
    pods: PodLists
    marks: Marks
    streams: asyncio.Semaphore
    """Outputs that are followed at once; who finds none free reads what there is, now and then."""
    reads: asyncio.Semaphore
    """Requests that end by themselves. First come, first served."""
    turn: asyncio.Lock
    """Who has lines to tell waits for it, now and then."""
    pause_seconds: Callable[[], float]
    """How long to wait between such reads."""
    wake: Callable[[Key], None]
    """Have the resource looked at: what was withheld from removal is not needed any more."""


class Follower:
    """Tells one run."""

    def __init__(self, key: Key, run: Run, wanted: Output, mark: Mark) -> None:
        self.key = key
        self.run = run
        self.wanted = wanted
        self.mark = mark
        self.done = mark.stage is Stage.RUN
        """All was told, or all that can be."""
        self.is_over = False
        """And nobody will begin with it again. Until then, an operator that ends has a word to leave."""
        self._changed = asyncio.Event()
        self._busy = not self.done
        self._withheld = False
        self._vanished = False
        self._waited = False
        self._limit: asyncio.Timeout | None = None
        self._nonce: str | None = None
        """Of a pod that runs many slots: by what its runner's own lines are known."""
        self._failing_since: float | None = None

    def see(self, run: Run, wanted: Output) -> None:
        """Take notice of what the run is now."""
        before, self.run, self.wanted = self.run, run, wanted
        if _shown(before) == _shown(run):
            return
        self._busy = not self.done
        self._changed.set()
        if before.failures != run.failures or run.finished is not None:
            self._end_stream()

    def vanish(self) -> None:
        """The run's Job is gone: its pods go as well. What a stream still brings is told."""
        self._vanished = True
        self._changed.set()
        self._end_stream()

    @property
    def needs_it(self) -> bool:
        """Whether Job and pods must stay; who asks is told when they need not any more."""
        self._withheld |= self._busy
        return self._busy

    @property
    def has_more_to_tell_of(self) -> bool:
        """Whether the next operator must know how far it was told: else it would begin where this one did."""
        return self.mark.pod != NOBODY or self.run.finished is not None

    async def tell(self, around: Around) -> None:
        """Tell all, and return when there can't be more."""
        delay = FIRST_DELAY_SECONDS
        self._keep(around)
        while not self._vanished:
            self._changed.clear()
            run = self.run
            try:
                pause = await self._tell_pods(around, run)
            except ApiError as error:
                if self._gives_up(run, error):
                    break
                pause, delay = delay, min(2 * delay, LONGEST_DELAY_SECONDS)
            else:
                delay, self._failing_since = FIRST_DELAY_SECONDS, None
                if pause is None and run.finished is not None:
                    break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), pause)
        self._finish(around)

    async def _tell_pods(self, around: Around, run: Run) -> float | None:
        """Tell what there is; return when to look again, None: only when something changes."""
        if not (run.ready or run.failed_pods or run.finished or self._waited):
            self._waited = True
            return START_SECONDS
        pods = progress.in_order(await around.pods.of_job(self.key.namespace, run.uid))
        numbers = progress.attempts(run, pods)
        pauses = []
        for pod in pods:
            if progress.is_told(pod, self.mark) or self.wanted is Output.NONE:
                continue
            if self.wanted is Output.FAILURES and not progress.has_failed(pod):
                continue  # yet; and if it will, the Job shows that
            name, container = progress.container_of(pod)
            if container is Container.WAITING:
                pauses.append(START_SECONDS)
            elif container is Container.NEVER:
                self.mark = replace(progress.begin(pod, self.mark), stage=Stage.POD)
                self._keep(around)
            else:
                pauses += await self._tell_pod(
                    around, pod, name, numbers[pod["metadata"]["uid"]], has_ended=container is Container.ENDED
                )
        if not self._changed.is_set():
            self._rest(around)
        return min(pauses, default=None)

    async def _tell_pod(
        self, around: Around, pod: Pod, container: str, attempt: int, *, has_ended: bool
    ) -> list[float]:
        """Tell a pod from where it was told on; return when to look at it again, if that is needed."""
        self.mark = progress.begin(pod, self.mark)
        if not self._vanished:
            around.marks.open(self.run.uid, self.mark)
        try:
            if not has_ended and not around.streams.locked():
                async with around.streams:
                    await self._follow(around, pod, container, attempt)
                return [AGAIN_SECONDS]
            async with around.reads:
                await self._read(around, pod, container, attempt, to_the_end=has_ended)
        except ApiError as error:
            if error.not_found:
                logger.warning(
                    "%s/%s: pod %s is gone; what it printed last could not be read",
                    self.key.namespace,
                    self.key.name,
                    pod["metadata"]["name"],
                )
            elif error.status != 400:
                raise
            elif not has_ended:
                return [AGAIN_SECONDS]
            has_ended = True  # there is no log, and there won't be any
        finally:
            around.marks.close(self.run.uid)
        if not has_ended:
            return [around.pause_seconds()]
        self.mark = replace(self.mark, stage=Stage.POD)
        self._keep(around)
        return []

    async def _follow(self, around: Around, pod: Pod, container: str, attempt: int) -> None:
        """Tell what comes, until the stream ends; the run's end puts an end to it as well."""
        try:
            async with asyncio.timeout(None) as self._limit:
                if self.run.finished is not None or self._vanished:
                    self._end_stream()
                await self._read(around, pod, container, attempt, follow=True)
        except TimeoutError:
            pass
        except ApiError as error:
            if error.status:
                raise
            logger.debug("%s/%s: the stream broke: %s", self.key.namespace, self.key.name, error)
        finally:
            self._limit = None

    async def _read(
        self,
        around: Around,
        pod: Pod,
        container: str,
        attempt: int,
        *,
        follow: bool = False,
        to_the_end: bool = False,
    ) -> None:
        told = self.mark.position
        reader = LineReader(told)
        self._nonce = pod_nonce(pod)
        stream = around.cluster.stream_log(
            self.key.namespace,
            pod["metadata"]["name"],
            container,
            follow=follow,
            since=datetime.fromtimestamp(told.nanoseconds // SECOND, UTC) if told.lines else None,
            timestamps=True,
            idle_seconds=FOLLOW_IDLE_SECONDS if follow else READ_IDLE_SECONDS,
        )
        count = 0
        async with contextlib.aclosing(stream):
            async for chunk in stream:
                await _turn(around)
                for line in reader.feed(chunk):
                    self._tell(around, pod, attempt, line, reader.position)
                    count += 1
                    if count % LINES_A_TURN == 0:
                        await _turn(around)
        if to_the_end:
            for line in reader.end():
                self._tell(around, pod, attempt, line, reader.position)

    def _tell(self, around: Around, pod: Pod, attempt: int, line: Line, position: Position) -> None:
        marker = None if self._nonce is None else read_marker(line.text, self._nonce)
        if (
            marker is not None
        ):  # a line of the batch's runner, perhaps behind one that the command did not end
            line = line._replace(text=marker.before)
        if marker is None or marker.before:
            tell_output(self._fields(pod, attempt), line)
        self.mark = self.mark.at(position)
        if marker is not None and marker.slot is not None:
            self.mark = replace(self.mark, slot=format_time(marker.slot))
        around.marks.write(self.run.uid, self.mark)

    def _fields(self, pod: Pod, attempt: int) -> dict[str, Any]:
        return {
            "job": self.key.name,
            "command": progress.command_of(pod),
            "namespace": self.key.namespace,
            "slot": format_time(self.run.slot) if self.mark.slot == NOBODY else self.mark.slot,
            "attempt": attempt,
            "pod": pod["metadata"]["name"],
        }

    def _keep(self, around: Around) -> None:
        if not self._vanished:
            around.marks.open(self.run.uid, self.mark)
            around.marks.close(self.run.uid)

    def _end_stream(self) -> None:
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time() + DRAIN_SECONDS)

    def _gives_up(self, run: Run, error: ApiError) -> bool:
        now = asyncio.get_running_loop().time()
        self._failing_since = self._failing_since or now
        is_over = run.finished is not None and now - self._failing_since >= GIVE_UP_SECONDS
        if error.transient and not is_over:
            return False
        logger.warning(
            "%s/%s: the output of Job %s is not told further: %s",
            self.key.namespace,
            self.key.name,
            run.name,
            error,
        )
        return True

    def _rest(self, around: Around) -> None:
        self._busy = False
        if self._withheld:
            self._withheld = False
            around.wake(self.key)

    def _finish(self, around: Around) -> None:
        self.done = True
        self.mark = replace(self.mark, stage=Stage.RUN)
        self._keep(around)
        self._rest(around)


async def _turn(around: Around) -> None:
    """Let the operator's other work go on: a hundred chatty commands are not to be told at a stretch."""
    async with around.turn:
        await asyncio.sleep(0)


def _shown(run: Run) -> tuple[object, ...]:
    return run.active, run.ready, run.failures, run.finished
