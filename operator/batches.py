"""A Job that runs many slots in one pod: its manifest, and what its runner reports.

PURE. The runner itself is batch_runner.py, which runs in the web app's image and imports nothing from here;
the two know each other by its command line, the plan, the report and the markers, and docs/batches.md has
these four. This module must not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from crontabber_operator.models import GROUP, INT32_MAX, Result, Spec
from crontabber_operator.times import format_time, parse_time

Body = Mapping[str, Any]
Manifest = dict[str, Any]

BATCH: Final = f"{GROUP}/batch"
"""On the pod: the plan."""
VOLUME: Final = "crontabber-batch"
DIRECTORY: Final = f"/{GROUP}"
RUNNER_FILE, PLAN_FILE = "runner.py", "plan.json"
TERMINATION_LOG: Final = "/dev/termination-log"
GRACE_SECONDS: Final = 30
"""Kubernetes' own, where the pod says nothing."""
PLAN_MAX_BYTES: Final = 160_000
"""All annotations of a pod together may have 256 KiB."""
PLAN_BYTES_PER_SLOT: Final = 48
"""Beside the two times as the command gets them."""

_PYTHON: Final = re.compile(r"(?:.*/)?python(?:\d+(?:\.\d+)?)?")
_FLAGS: Final = re.compile(r"-[bBdEIOPqsSuvx]+")
_FLAGS_WITH_VALUE: Final = frozenset({"-X", "-W"})


# --- Which jobs can ---------------------------------------------------------------------------------------


class Launcher(NamedTuple):
    """`managePy`, taken apart."""

    python: tuple[str, ...]
    """The interpreter with its flags, and whatever starts it."""
    program: tuple[str, ...]
    """The script, or `-m` and a module, and arguments of its own."""


def launcher(manage_py: tuple[str, ...]) -> Launcher | None:
    """Take `managePy` apart; None: it isn't a Python that runs a script or a module."""
    at = next((index for index, word in enumerate(manage_py) if _PYTHON.fullmatch(word)), None)
    if at is None:
        return None
    following = at + 1
    while following < len(manage_py):
        word = manage_py[following]
        if word in _FLAGS_WITH_VALUE:
            following += 2
        elif _FLAGS.fullmatch(word) or word.startswith(("-X", "-W")):
            following += 1
        else:
            break
    program = manage_py[following:]
    if not program or (program[0].startswith("-") and program[0] != "-m") or program[-1] == "-m":
        return None
    return Launcher(manage_py[:following], program)


def why_not(spec: Spec, manage_py: tuple[str, ...]) -> str | None:
    """Say why a job's missed slots can't share a Job although it asks for that; None: they can."""
    if launcher(manage_py) is None:
        given = " ".join(manage_py) or "the image's own entrypoint"
        return (
            f"spec.backfillBatch: needs a spec.managePy that is a Python with its script, such as"
            f" [python, manage.py], not {given}; each missed slot gets a Job of its own."
        )
    volumes = ((spec.template or {}).get("spec") or {}).get("volumes") or ()
    if any(volume.get("name") == VOLUME for volume in volumes):
        return f"spec.template: has a volume {VOLUME}; rename it. Each missed slot gets a Job of its own."
    return None


def slots_max(spec: Spec, slot: datetime) -> int:
    """Return how many slots one Job of a spec may cover, so that the plan finds room on its pod."""
    room = PLAN_MAX_BYTES // (PLAN_BYTES_PER_SLOT + 2 * len(json.dumps(spec.written(slot))))
    return max(1, min(spec.backfill_batch, room))


# --- The runner's ConfigMap -------------------------------------------------------------------------------


def config_map_name(owner_name: str, owner_uid: str, source: str) -> str:
    """Name the ConfigMap of a runner: another one for another resource or another runner."""
    digest = hashlib.sha256(f"{owner_uid}/{source}".encode()).hexdigest()[:10]
    return f"{owner_name}-runner-{digest}"


# --- The Job ----------------------------------------------------------------------------------------------


def carry(job_spec: Manifest, container: Manifest, config_map: str, count: int) -> None:
    """Change the spec of a Job, and its container in it, so that it runs so many slots."""
    taken = launcher(tuple(container.get("command") or ()))
    if taken is None:
        raise ValueError(container.get("command"))
    pod = job_spec["template"]["spec"]
    each_seconds = int(pod["activeDeadlineSeconds"])
    reserve_seconds = int(job_spec["activeDeadlineSeconds"]) - each_seconds
    grace_seconds = int(pod.get("terminationGracePeriodSeconds") or GRACE_SECONDS)
    container["command"] = [
        *taken.python,
        f"{DIRECTORY}/{RUNNER_FILE}",
        f"--plan={DIRECTORY}/{PLAN_FILE}",
        f"--report={TERMINATION_LOG}",
        f"--timeout={each_seconds}",
        f"--grace={grace_seconds}",
        "--",
        *taken.program,
    ]
    container["terminationMessagePath"] = TERMINATION_LOG
    # Kubernetes puts these wherever args and env mention the variables, and the runner each slot's own there.
    for variable in container["env"]:
        mark = _MARKS.get(variable["name"])
        if mark is not None:
            variable.pop("valueFrom", None)
            variable["value"] = mark
    mount = {"name": VOLUME, "mountPath": DIRECTORY, "readOnly": True}
    container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]
    field = {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{BATCH}']"}
    sources = [
        {"configMap": {"name": config_map, "items": [{"key": RUNNER_FILE, "path": RUNNER_FILE}]}},
        {"downwardAPI": {"items": [{"path": PLAN_FILE, "fieldRef": field}]}},
    ]
    pod["volumes"] = [*(pod.get("volumes") or ()), {"name": VOLUME, "projected": {"sources": sources}}]
    job_spec["template"]["metadata"]["annotations"][BATCH] = ""
    # The deadline holds for each slot; the runner sees to it.
    whole_seconds = min(each_seconds * count + grace_seconds, INT32_MAX - reserve_seconds)
    pod["activeDeadlineSeconds"] = whole_seconds
    job_spec["activeDeadlineSeconds"] = whole_seconds + reserve_seconds
    # A pod that was evicted must not be made again as it was: some of its slots are done.
    job_spec.pop("podFailurePolicy", None)


_MARKS: Final = {
    "RUN_TIME": f"@{GROUP}/run-time@",
    "LAST_SUCCESS": f"@{GROUP}/last-success@",
}
"""As batch_runner.py has them."""


def nonce(run_uid: str) -> str:
    """Return what tells the markers and the report of a run from what a command prints."""
    return hashlib.sha256(f"{GROUP}/{run_uid}".encode()).hexdigest()[:12]


def plan(run_uid: str, slots: Iterable[tuple[datetime, str, str]]) -> str:
    """Write the plan: each slot with its run time and last success as the command gets them."""
    listed = [[format_time(slot), run_time, last_success] for slot, run_time, last_success in slots]
    return json.dumps({"nonce": nonce(run_uid), "slots": listed}, separators=(",", ":"), ensure_ascii=False)


# --- What the runner says ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Report:
    """The termination message of a batch."""

    good: datetime | None
    """The last slot that succeeded."""
    result: Result | None = None
    """How the slot behind it failed, where its exit code doesn't say."""
    ended: bool = False
    """The runner itself saw a slot fail; else the pod was ended, or it never came so far."""


_RESULTS: Final = {"timeout": Result.TIMED_OUT, "oom": Result.OUT_OF_MEMORY}


def pod_nonce(pod: Body) -> str | None:
    """Return the nonce of a pod that runs a batch."""
    text = (pod["metadata"].get("annotations") or {}).get(BATCH)
    return _nonce_of(text) if isinstance(text, str) and text else None


def _nonce_of(text: str) -> str | None:
    try:
        found = json.loads(text)["nonce"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) and found else None


def read_report(message: str, expected: str) -> Report | None:
    """Read a termination message; None where it is something else."""
    try:
        told, _ = json.JSONDecoder().raw_decode(message)
    except ValueError:
        return None
    if not isinstance(told, dict) or told.get("crontabber") != expected:
        return None
    how = told.get("how")
    return Report(
        good=_time(told.get("good")), result=_RESULTS.get(str(how)), ended=isinstance(how, str) and bool(how)
    )


@dataclass(frozen=True, slots=True)
class Progress:
    """What the output of a batch tells while it runs."""

    good: datetime | None
    """The last slot that succeeded."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Marker:
    """A line of the runner's own in the output."""

    before: str
    """What the command had begun to print on that line."""
    slot: datetime | None
    what: str
    """`begins`, `succeeded in 0.014 s`, `failed: exit code 1`; the text of a note."""


def read_marker(line: str, expected: str) -> Marker | None:
    """Read a line of output; None: it is the command's own."""
    before, found, rest = line.rpartition(f"crontabber[{expected}] ")
    if not found:
        return None
    rest = rest.rstrip("\r\n")
    if rest.startswith("note: "):
        return Marker(before, None, rest.removeprefix("note: "))
    kind, _, told = rest.partition(" ")
    written, _, what = told.partition(" ")
    slot = _time(written)
    return Marker(before, slot, what) if kind == "slot" and slot is not None else None


def read_progress(output: str, expected: str) -> Progress:
    """Find the newest slot that succeeded in the end of an output."""
    good, notes = None, []
    for line in output.splitlines():
        marker = read_marker(line, expected)
        if marker is not None and marker.slot is None:
            notes.append(marker.what)
        elif marker is not None and marker.what.startswith("succeeded"):
            good = marker.slot
    return Progress(good, tuple(notes))


def output_of_last_slot(output: str, expected: str) -> str:
    """Return what the slot that was begun last printed, without the markers."""
    lines: list[str] = []
    for line in output.splitlines(keepends=True):
        marker = read_marker(line, expected)
        if marker is None:
            lines.append(line)
        elif marker.what == "begins":
            lines = []
        elif marker.before:
            lines.append(f"{marker.before}\n")
    return "".join(lines)


def _time(value: object) -> datetime | None:
    try:
        return parse_time(value) if isinstance(value, str) else None
    except ValueError:
        return None
