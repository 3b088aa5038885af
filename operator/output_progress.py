"""How far the output of a run was told, and whether there is more of it to tell.

Pure: what the API shows and what was kept come in, an answer goes out. What the books have of a run was told
before, by this operator or the one before it; so only what goes on, or ended unseen, needs a mark of its own.
This module must not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from crontabber_operator.manifests import command_container
from crontabber_operator.models import Output, Status
from crontabber_operator.observed import Run, RunKind
from crontabber_operator.output_lines import Position
from crontabber_operator.times import format_time, parse_time

Pod = Mapping[str, Any]

NOBODY = "-"
NOTHING = Position()


class Stage(StrEnum):
    """Where the telling of a run is."""

    READING = "reading"
    POD = "pod"
    """The pod that the mark names was told to its end."""
    RUN = "run"
    """All of the run was told."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a run was told: its pods come one after the other, so the newest pod that was begun says it."""

    pod: str = NOBODY
    """Its uid."""
    created: str = NOBODY
    """Its creationTimestamp, which sorts as text. While no pod was begun: what ended up to then was told before."""
    position: Position = NOTHING
    stage: Stage = Stage.READING
    slot: str = NOBODY
    """Of a pod that runs many slots: the one that was printing."""

    def written(self) -> str:
        """Write it as one line."""
        return f"{self.pod} {self.created} {self.position.nanoseconds} {self.position.lines} {self.stage} {self.slot}"

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Read it again; None for anything else."""
        try:
            pod, born, nanoseconds, count, stage, slot = text.split()
            return cls(pod, born, Position(int(nanoseconds), int(count)), Stage(stage), slot)
        except ValueError:
            return None

    @classmethod
    def at_first(cls, run: Run, status: Status) -> Self:
        """Return the mark of a run that is seen for the first time: the attempts in the books were told before."""
        recorded = recorded_until(run, status)
        return cls() if recorded is None else cls(created=format_time(recorded))

    def at(self, position: Position) -> Mark:
        """Return the mark behind a further line of the same pod."""
        return Mark(self.pod, self.created, position, self.stage, self.slot)

    def reaches(self, other: Mark) -> bool:
        """Tell whether it is at least as far as another mark of the same run."""
        return self._order() >= other._order()

    def _order(self) -> tuple[bool, str, Position, bool]:
        born = "" if self.pod == NOBODY else self.created
        return self.stage is Stage.RUN, born, self.position, self.stage is Stage.POD


class Container(StrEnum):
    """What became of a container, as far as its output is concerned."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"
    NEVER = "never"
    """Its pod ended without it."""


def to_tell(run: Run, status: Status, wanted: Output, mark: Mark | None, since: datetime) -> bool:
    """Tell whether there is, or will be, output of a run to tell. `since`: the operator's start."""
    if wanted is Output.NONE or not run.released:
        return False
    if wanted is Output.FAILURES and not run.failures:
        return False
    if not (run.active or run.failed_pods or run.finished):
        return False
    if mark is not None:
        return mark.stage is not Stage.RUN
    if run.finished is None:
        return True
    if run.kind is RunKind.MANUAL:
        return run.finished >= since  # no books hold it
    return not is_recorded(run, status)


def is_recorded(run: Run, status: Status) -> bool:
    """Tell whether the books have the end of a run, or have done with it."""
    if run.finished is None:
        return False
    if status.settled_through is not None and run.through <= status.settled_through:
        return True
    if status.disregarded is not None and run.uid in status.disregarded.jobs:
        return True
    newest = recorded_until(run, status)
    return newest is not None and (newest >= run.finished or run.attempt > 0)


def recorded_until(run: Run, status: Status) -> datetime | None:
    """Return when the newest attempt of a run ended that is in the books."""
    return max(
        (
            entry.finished
            for entry in status.history
            if entry.job == run.name and entry.finished is not None and entry.finished >= run.created
        ),
        default=None,
    )


def is_told(pod: Pod, mark: Mark) -> bool:
    """Tell whether a pod was told to its end."""
    if mark.stage is Stage.RUN:
        return True
    if pod["metadata"]["uid"] == mark.pod:
        return mark.stage is not Stage.READING
    if mark.pod != NOBODY:
        return created(pod) < mark.created
    ended = _ended_at(pod)
    return mark.created != NOBODY and ended is not None and format_time(ended) <= mark.created


def begin(pod: Pod, mark: Mark) -> Mark:
    """Return the mark with which a pod is begun, or gone on with."""
    if pod["metadata"]["uid"] == mark.pod:
        return replace(mark, stage=Stage.READING)
    return Mark(pod["metadata"]["uid"], created(pod))


def in_order(pods: Sequence[Pod]) -> list[Pod]:
    """Sort the pods of a run by age."""
    return sorted(pods, key=lambda pod: (created(pod), pod["metadata"]["name"]))


def created(pod: Pod) -> str:
    """Return when a pod was made, as text that sorts."""
    return str(pod["metadata"].get("creationTimestamp") or NOBODY)


def has_failed(pod: Pod) -> bool:
    """Tell whether a pod ended without success."""
    return (pod.get("status") or {}).get("phase") == "Failed"


def container_of(pod: Pod) -> tuple[str, Container]:
    """Return the name of the container that runs the command, and what became of it."""
    name = command_container(pod["spec"]["containers"])["name"]
    status = pod.get("status") or {}
    for one in status.get("containerStatuses") or []:
        if one.get("name") == name:
            state = one.get("state") or {}
            if "running" in state:
                return name, Container.RUNNING
            if "terminated" in state:
                # Without an id it was never made, and a log of it there never was.
                return name, Container.ENDED if one.get("containerID") else Container.NEVER
    return name, Container.NEVER if status.get("phase") in ("Failed", "Succeeded") else Container.WAITING


def attempts(run: Run, pods: Sequence[Pod]) -> dict[str, int]:
    """Number the attempts that the pods of a run are, by the pod's uid; `pods` in order.

    Of a plain run, failed pods that are gone have counted.
    """
    if run.attempt:
        return dict.fromkeys((pod["metadata"]["uid"] for pod in pods), run.attempt)
    gone = max(0, run.failed_pods - sum(has_failed(pod) for pod in pods))
    return {pod["metadata"]["uid"]: gone + number for number, pod in enumerate(pods, start=1)}


def command_of(pod: Pod) -> str:
    """Return the management command that a pod runs: the first argument."""
    args = command_container(pod["spec"]["containers"]).get("args") or [""]
    return str(args[0])


def _ended_at(pod: Pod) -> datetime | None:
    name = command_container(pod["spec"]["containers"])["name"]
    for one in (pod.get("status") or {}).get("containerStatuses") or []:
        if one.get("name") == name:
            try:
                return parse_time(one["state"]["terminated"]["finishedAt"])
            except (KeyError, TypeError, ValueError):
                return None
    return None
