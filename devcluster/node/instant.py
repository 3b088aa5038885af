"""Finishes pods without running anything: for benchmarks of thousands of pods.

A pod's annotation ``devcluster/result`` says how its containers end, one or more of these, comma-separated:
``fail`` (exit code 1), ``exit=N``, ``oom`` (137, OOMKilled), ``hang`` (until it is stopped), ``seconds=N``
(after so long). Without it they succeed at once.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from devcluster.node.runtime import Ended, NotReadyError
from devcluster.node.status import ended_reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Manifest = Mapping[str, Any]

RESULT_ANNOTATION = "devcluster/result"
_TERMINATED, _KILLED = 143, 137


@dataclass(frozen=True, slots=True)
class Result:
    """How a container ends; `seconds` None: not by itself."""

    exit_code: int = 0
    seconds: float | None = 0
    out_of_memory: bool = False


def parse_result(text: str) -> Result:
    """Read the annotation's value; raises ValueError for anything that isn't described above."""
    exit_code, seconds, out_of_memory = 0, 0.0, False
    hangs = False
    for word in filter(None, (each.strip() for each in text.split(","))):
        name, _, value = word.partition("=")
        match name:
            case "fail" if not value:
                exit_code = 1
            case "oom" if not value:
                exit_code, out_of_memory = _KILLED, True
            case "hang" if not value:
                hangs = True
            case "exit":
                exit_code = int(value)
            case "seconds":
                seconds = float(value)
            case _:
                msg = f"{RESULT_ANNOTATION}: {word!r} is none of fail, exit=N, oom, hang, seconds=N"
                raise ValueError(msg)
    return Result(exit_code, None if hangs else seconds, out_of_memory)


class InstantContainer:
    """A container that never was."""

    def __init__(self, result: Result, image: str) -> None:
        """Begin now."""
        self.container_id = f"instant://{uuid.uuid4().hex}"
        self.image_id = f"instant://{image}"
        self._result = result
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if result.seconds == 0:
            self._ended.set_result(result.exit_code)
        elif result.seconds is not None:
            asyncio.get_running_loop().call_later(result.seconds, self._end, result.exit_code)

    async def wait(self) -> Ended:
        """Return the result, when it is time."""
        code = await asyncio.shield(self._ended)
        out_of_memory = self._result.out_of_memory and code == self._result.exit_code
        return Ended(code, ended_reason(code, out_of_memory=out_of_memory), "", datetime.now(UTC))

    def terminate(self) -> None:
        """End as a process that has no handler for SIGTERM."""
        self._end(_TERMINATED)

    def kill(self) -> None:
        """End as a killed process."""
        self._end(_KILLED)

    async def execute(self, command: Sequence[str], timeout_seconds: float) -> int:  # noqa: ARG002
        """Succeed: probes of what isn't there are good."""
        return 0

    def _end(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)


class InstantRuntime:
    """Starts containers that only have a result."""

    def lost(self, pod: Manifest) -> bool:  # noqa: ARG002
        """Lose nothing: what has no process can be begun again."""
        return False

    async def prepare(self, pod: Manifest) -> None:
        """Need nothing."""

    async def start(self, pod: Manifest, container: Manifest, attempt: int) -> InstantContainer:  # noqa: ARG002
        """Return a container that ends as the pod's annotation says."""
        annotations = pod["metadata"].get("annotations") or {}
        try:
            result = parse_result(annotations.get(RESULT_ANNOTATION, ""))
        except ValueError as error:
            raise NotReadyError("CreateContainerConfigError", str(error)) from error
        return InstantContainer(result, container.get("image", ""))

    async def finish(self, pod: Manifest) -> None:
        """Have nothing to free."""

    async def release(self, pod: Manifest) -> None:
        """Have nothing to forget."""
