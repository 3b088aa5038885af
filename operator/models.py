"""The resource CrontabberJob as frozen models: what a user wants (`Spec`), what is kept (`Status`).

This module is the source of the CRD's schema (crd.py turns it into crds/crontabberjobs.yaml) and the only
place that knows the resource's JSON.

It must not import kopf or kubernetes, read a clock, or decide anything about runs.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Self, TypeVar, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic.alias_generators import to_camel
from pydantic.dataclasses import dataclass

from crontabber_operator.forms import (
    COMMAND,
    CONTAINER_NAME,
    FREQUENCY,
    GROUP_NAME,
    OBJECT_NAME,
    OPTION,
    TIME_FORMAT,
    TIME_OF_DAY,
    TIME_ZONE,
    GivenTime,
    text,
)
from crontabber_operator.schedule import Slots, parse_frequency, parse_schedule
from crontabber_operator.spec_rules import NAME_MAX_LENGTH, mistakes, sentence
from crontabber_operator.times import UtcTime

GROUP = "crontabber.dev"
VERSION = "v1"
KIND = "CrontabberJob"
PLURAL = "crontabberjobs"

DEFAULT_COMMAND_PREFIX = ("python", "manage.py")
DEFAULT_RETRY_DELAY_SECONDS = 10
"""The first wait of Kubernetes' Job controller before it makes a failed pod anew."""
DEFAULT_RETRY_MAX_DELAY_SECONDS = 600
"""The longest wait of Kubernetes' Job controller."""
HISTORY_LENGTH = 10
"""So many entries `status.history` and `status.lastCommands` hold."""
TRACEBACK_MAX_BYTES = 4096
TEXT_MAX_CHARACTERS = 1024
INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1

# Slotted dataclasses instead of BaseModel: a history entry takes 250 bytes instead of 1,230, and ten of them
# are held for each of 10,000 resources. Unknown fields are ignored: the API server prunes them, and a newer
# CRD may know more than this version does.
_CONFIG = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


# --- Enumerations ---------------------------------------------------------------------------------------


class ReportErrors(StrEnum):
    """Whether failed runs go to Sentry."""

    AUTO = "Auto"
    ALWAYS = "Always"
    NEVER = "Never"


class Output(StrEnum):
    """What of the command's output the operator's log repeats."""

    ALL = "All"
    FAILURES = "Failures"
    NONE = "None"


class WorkloadKind(StrEnum):
    """The kinds of workload whose pod template a job can run in."""

    DEPLOYMENT = "Deployment"


class InitContainerPolicy(StrEnum):
    """Which init containers of the web app a job's pod keeps."""

    SIDECARS = "Sidecars"
    DROP = "Drop"
    ALL = "All"


class State(StrEnum):
    """`status.state`: one word for humans."""

    WAITING = "Waiting"
    RUNNING = "Running"
    CATCHING_UP = "CatchingUp"
    RETRYING = "Retrying"
    RETRIES_EXHAUSTED = "RetriesExhausted"
    SUSPENDED = "Suspended"
    INVALID = "Invalid"


class Result(StrEnum):
    """How a run ended."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    TIMED_OUT = "TimedOut"
    OUT_OF_MEMORY = "OutOfMemory"
    EVICTED = "Evicted"
    LOST = "Lost"


class ConditionType(StrEnum):
    """The conditions in `status.conditions`."""

    READY = "Ready"
    LAST_RUN_SUCCEEDED = "LastRunSucceeded"
    CAUGHT_UP = "CaughtUp"
    STALLED = "Stalled"


# --- Spec -----------------------------------------------------------------------------------------------


class InvalidSpec(ValueError):  # noqa: N818 - named for what it says about the resource
    """A spec that can't be scheduled. `sentences` name a field and the mend, one for each mistake."""

    def __init__(self, sentences: Iterable[str]) -> None:
        """Take the sentences, in the order of the fields."""
        self.sentences = tuple(sentences)
        super().__init__("; ".join(self.sentences))


@dataclass(config=_CONFIG, frozen=True, slots=True, kw_only=True)
class Dependency:
    """A CrontabberJob that must have succeeded first."""

    name: Annotated[
        str,
        text(
            "The name of a CrontabberJob of the same namespace.",
            OBJECT_NAME,
            NAME_MAX_LENGTH,
        ),
    ]


@dataclass(config=_CONFIG, frozen=True, slots=True, kw_only=True)
class WebApp:
    """The workload whose pod template is run in. What is None comes from the operator's settings."""

    kind: Annotated[
        WorkloadKind | None,
        Field(description="The workload's kind. When absent, the operator's --webapp."),
    ] = None
    name: Annotated[
        str | None,
        text(
            "The workload's name, in the same namespace. When absent, the operator's --webapp.",
            OBJECT_NAME,
            253,
        ),
    ] = None
    container: Annotated[
        str | None,
        text(
            "The container of the workload that the command runs in. When absent, the first; in the workload of"
            " the operator's --webapp, that of its --webapp-container.",
            CONTAINER_NAME,
            63,
        ),
    ] = None
    init_container_policy: Annotated[
        InitContainerPolicy,
        Field(
            description="Which init containers the job's pods keep. Sidecars (when absent): those with"
            " restartPolicy Always, such as a database proxy. Drop: none. All: all of them."
        ),
    ] = InitContainerPolicy.SIDECARS


@dataclasses.dataclass(frozen=True, slots=True)
class Defaults:
    """What the operator's settings say where a spec doesn't."""

    webapp: str = "webapp"
    """The name of the workload."""
    container: str | None = None
    """The container of that workload, and of no other; None: its first."""
    manage_py: tuple[str, ...] = DEFAULT_COMMAND_PREFIX


@dataclass(config=_CONFIG, frozen=True, slots=True, kw_only=True)
class Spec:
    """What the user wants. A field is None where it makes a difference that it was not given."""

    command: Annotated[
        str,
        text("The management command that is run, such as clearsessions.", COMMAND, 253),
    ]
    args: Annotated[
        tuple[Annotated[str, Field(max_length=65536)], ...],
        Field(
            description="Further arguments of the command. $(RUN_TIME) and $(LAST_SUCCESS) in them become"
            " the run time and the last success; $$(RUN_TIME) is left as $(RUN_TIME).",
            max_length=512,
        ),
    ] = ()
    schedule: Annotated[
        str | None,
        Field(
            description="When to run: a cron expression of five fields (minute, hour, day of month, month,"
            " day of week), such as '30 5 * * MON-FRI', or @hourly, @daily, @weekly, @monthly or @yearly."
            " Give either this or frequency.",
            max_length=512,
        ),
    ] = None
    frequency: Annotated[
        str | None,
        text(
            "How often to run: a number and m, h or d, such as 45m, 1h or 7d. Its slots are the multiples"
            " since Monday 1970-01-05 at time UTC, so 7d is every Monday. Give either this or schedule.",
            FREQUENCY,
            7,
        ),
    ] = None
    time_zone: Annotated[
        str | None,
        text(
            "The time zone of the schedule, an IANA name such as Europe/Berlin. When absent, UTC. Not with"
            " frequency, which is always UTC.",
            TIME_ZONE,
            64,
        ),
    ] = None
    time: Annotated[
        str | None,
        text(
            "The time of day, HH:MM UTC, of a frequency in days. When absent, 00:00. Write it in quotes.",
            TIME_OF_DAY,
            5,
        ),
    ] = None
    backfill: Annotated[
        bool,
        Field(
            description="Run every missed slot, oldest first, and pass the slot as an argument. The first"
            " failure holds back the later slots until its slot succeeds. When absent, missed slots"
            " collapse into one late run."
        ),
    ] = False
    pass_last_success: Annotated[
        bool, Field(description="Pass the last success as an argument. When absent, it is not passed.")
    ] = False
    run_time_argument: Annotated[
        str,
        text(
            "The name of the option that passes the slot. When absent, --run-time. Empty: pass it only"
            " where args mention $(RUN_TIME).",
            OPTION,
            128,
        ),
    ] = "--run-time"
    last_success_argument: Annotated[
        str,
        text(
            "The name of the option that passes the last success. When absent, --last-success. Empty: pass"
            " it only where args mention $(LAST_SUCCESS).",
            OPTION,
            128,
        ),
    ] = "--last-success"
    time_format: Annotated[
        str,
        text(
            "How the run time and the last success are written, a strftime format, always in UTC. When"
            " absent, %Y-%m-%dT%H:%M. A last success that there is not is passed as the empty text.",
            TIME_FORMAT,
            128,
        ),
    ] = "%Y-%m-%dT%H:%M"
    backfill_since: Annotated[
        GivenTime | None,
        Field(
            description="With backfill and no success yet, the slots from this time on count as missed,"
            " such as 2026-11-24T08:00:00Z. When absent, those since the creation."
        ),
    ] = None
    backfill_limit: Annotated[
        int | None,
        Field(
            description="With backfill, at most this many of the newest missed slots are run; older ones are"
            " skipped, counted in status.skipped and told. When absent, all are run.",
            ge=1,
            le=INT32_MAX,
        ),
    ] = None
    backfill_batch: Annotated[
        int,
        Field(
            description="With backfill, one Job may run up to this many consecutive missed slots, each in a"
            " process of its own, with the start-up paid once. When absent, 1.",
            ge=1,
            le=1000,
        ),
    ] = 1
    starting_deadline_seconds: Annotated[
        int | None,
        Field(
            description="A slot that could not start for this long is skipped, counted in status.skipped"
            " and told. When absent, a slot is never too late.",
            ge=1,
            le=INT32_MAX,
        ),
    ] = None
    depends_on: Annotated[
        tuple[Dependency, ...],
        Field(
            description="A slot starts only when each of these CrontabberJobs of the namespace has"
            " succeeded for its own newest slot at or before it.",
            max_length=32,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
            },
        ),
    ] = ()
    concurrency_group: Annotated[
        str | None,
        text(
            "Of all CrontabberJobs of the namespace with this name here, one runs at a time, the oldest"
            " slot first.",
            GROUP_NAME,
            63,
        ),
    ] = None
    retry_delay_seconds: Annotated[
        int | None,
        Field(
            description="The wait before a failed slot's second attempt; it doubles with each further one."
            " When absent, 10, as Kubernetes does it by itself.",
            ge=1,
            le=604800,
        ),
    ] = None
    retry_max_delay_seconds: Annotated[
        int | None,
        Field(
            description="The longest wait between two attempts. When absent, 600, or retryDelaySeconds"
            " where that is longer.",
            ge=1,
            le=604800,
        ),
    ] = None
    retry_limit: Annotated[
        int | None,
        Field(
            description="How many attempts follow the first. After the last one the job is RetriesExhausted"
            " and later slots are held back, until it is marked, reset or changed; a job that needs nothing"
            " but Kubernetes gives the slot up instead. When absent, there is no limit.",
            ge=0,
            le=INT32_MAX,
        ),
    ] = None
    active_deadline_seconds: Annotated[
        int,
        Field(
            description="A run older than this is stopped and counts as a failed attempt. When absent, 7200.",
            ge=1,
            le=INT32_MAX,
        ),
    ] = 7200
    suspend: Annotated[
        bool,
        Field(
            description="No new runs while this is true; a run that goes on is left to end. When absent,"
            " false."
        ),
    ] = False
    report_errors: Annotated[
        ReportErrors,
        Field(
            description="Whether failed runs go to Sentry. Auto (when absent): only what the command can't"
            " report by itself, where its pod has a SENTRY_DSN. Always: every failure. Never: none."
        ),
    ] = ReportErrors.AUTO
    output: Annotated[
        Output | None,
        Field(
            description="What of the command's output the operator's log repeats. When absent, the operator's"
            " --output, which is All by itself."
        ),
    ] = None
    successful_jobs_history_limit: Annotated[
        int,
        Field(
            description="How many succeeded Jobs are kept. When absent, 3.",
            ge=0,
            le=1000,
        ),
    ] = 3
    failed_jobs_history_limit: Annotated[
        int,
        Field(description="How many failed Jobs are kept. When absent, 1.", ge=0, le=1000),
    ] = 1
    webapp: Annotated[
        WebApp | None,
        Field(
            description="Run in the pod template of this workload of the namespace, configured the same as"
            " the web app: image, env, volumes, service account, security and placement. It follows the"
            " last completed rollout. When absent, the operator's --webapp. Not together with template."
        ),
    ] = None
    template: Annotated[
        dict[str, Any] | None,
        Field(
            description="A pod template of the job's own, instead of webapp. The command goes to its"
            " container named crontabber, else to the first."
        ),
    ] = None
    manage_py: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=4096)], ...] | None,
        Field(
            description="What stands before the command. When absent, the operator's --manage-py, which is"
            " [python, manage.py] unless set. An empty list keeps the image's entrypoint.",
            max_length=32,
        ),
    ] = None

    @classmethod
    def read(cls, raw: object, *, name: str = "") -> Self:
        """Read `spec` of the resource called `name` and check all that can be known without the cluster.

        Raises InvalidSpec with a sentence for each mistake. The CRD refuses most already; left for here are
        cron text, time zone and pod template, and resources stored under an older schema.
        """
        if not isinstance(raw, Mapping):
            raise InvalidSpec(["spec: is missing; give at least command, and schedule or frequency"])
        try:
            spec = _SPEC.validate_python(raw)
        except ValidationError as error:
            raise InvalidSpec(sentence(detail) for detail in error.errors(include_url=False)) from error
        sentences = tuple(mistakes(spec, name))
        if sentences:
            raise InvalidSpec(sentences)
        return cast("Self", spec)

    def filled(self, defaults: Defaults) -> Self:
        """Return the spec with the operator's settings where it says nothing of its own."""
        webapp = self.webapp
        if self.template is None:
            given = webapp or WebApp()
            name = given.name or defaults.webapp
            of_default = defaults.container if name == defaults.webapp else None
            webapp = dataclasses.replace(given, name=name, container=given.container or of_default)
        manage_py = defaults.manage_py if self.manage_py is None else self.manage_py
        if (webapp, manage_py) == (self.webapp, self.manage_py):
            return self
        return dataclasses.replace(self, webapp=webapp, manage_py=manage_py)

    @property
    def slots(self) -> Slots:
        """The slots of the schedule or frequency. Raises ScheduleError where `read` was by-passed."""
        # Both are cached: 10,000 jobs have a few hundred schedules.
        if self.frequency is not None:
            return parse_frequency(self.frequency, self.time)
        return parse_schedule(self.schedule or "", self.time_zone)

    @property
    def schedule_text(self) -> str:
        """The column SCHEDULE: the cron text as it was given, or `every 45m`, or `every 1d @ 05:00 UTC`."""
        return self.schedule if self.schedule is not None else self.slots.describe()

    @property
    def passes_run_time(self) -> bool:
        """Whether `args` mention the run time."""
        return _mentions(self.args, "RUN_TIME")

    @property
    def passes_last_success(self) -> bool:
        """Whether `args` mention the last success."""
        return _mentions(self.args, "LAST_SUCCESS")

    @property
    def is_gated(self) -> bool:
        """Whether the operator must release each run (design.md section 3)."""
        return not self.is_plain

    @property
    def is_plain(self) -> bool:
        """Whether Kubernetes alone can do all that this job asks for.

        A `startingDeadlineSeconds` on a frequency can't be left to the CronJob: it would leave its grid.
        """
        return not (
            self.backfill
            or self.pass_last_success
            or self.depends_on
            or self.concurrency_group is not None
            or self.retry_delay_seconds is not None
            or self.retry_max_delay_seconds is not None
            or (self.starting_deadline_seconds is not None and self.frequency is not None)
            or self.passes_run_time
            or self.passes_last_success
        )

    @property
    def effective_retry_delay_seconds(self) -> int:
        """The wait before the second attempt; never longer than the longest wait."""
        if self.retry_delay_seconds is not None:
            return self.retry_delay_seconds
        if self.retry_max_delay_seconds is not None:
            return min(DEFAULT_RETRY_DELAY_SECONDS, self.retry_max_delay_seconds)
        return DEFAULT_RETRY_DELAY_SECONDS

    @property
    def effective_retry_max_delay_seconds(self) -> int:
        """The wait that doubling stops at."""
        if self.retry_max_delay_seconds is not None:
            return self.retry_max_delay_seconds
        return max(DEFAULT_RETRY_MAX_DELAY_SECONDS, self.effective_retry_delay_seconds)

    def written(self, time: datetime | None) -> str:
        """Write a run time or last success as the command gets it, by `timeFormat`; None is empty."""
        return "" if time is None else time.astimezone(UTC).strftime(self.time_format)


def _mentions(args: Iterable[str], variable: str) -> bool:
    # As Kubernetes expands it: $$ is an escaped $, so an even number of $ before it leaves a reference.
    reference = f"$({variable})"
    return any(
        reference in arg and re.search(r"(?<!\$)(?:\$\$)*" + re.escape(reference), arg) is not None
        for arg in args
    )


# --- Status ---------------------------------------------------------------------------------------------


def _well_formed(text: str) -> str:
    # Output that was no UTF-8 may carry lone surrogates, which no JSON can hold.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _end_of(max_bytes: int) -> Callable[[str], str]:
    def end(text: str) -> str:
        data = text.encode("utf-8", "replace")
        if len(data) <= max_bytes:
            return data.decode("utf-8")
        cut = data[-max_bytes:].decode("utf-8", "ignore")
        _, _, whole_lines = cut.partition("\n")
        return whole_lines or cut

    return end


def _start_of(max_characters: int) -> Callable[[str], str]:
    def start(text: str) -> str:
        text = _well_formed(text)
        return text if len(text) <= max_characters else text[: max_characters - 1] + "…"

    return start


_Entry = TypeVar("_Entry")


def _newest(entries: tuple[_Entry, ...]) -> tuple[_Entry, ...]:
    return entries[:HISTORY_LENGTH]


_ShortText = Annotated[str, AfterValidator(_start_of(TEXT_MAX_CHARACTERS))]
# Without a mark that it was cut: commands are known again by the beginning of their value.
_Cut = Annotated[str, AfterValidator(lambda text: _well_formed(text)[: 2 * TEXT_MAX_CHARACTERS])]
# Somebody may write the largest number that the API server takes, and then it is counted on.
_AtMostInt64 = AfterValidator(lambda count: min(count, INT64_MAX))
_Counter = Annotated[int, Field(ge=0), _AtMostInt64]
_Number = Annotated[int, Field(ge=1), _AtMostInt64]


@dataclass(config=_CONFIG, frozen=True, slots=True, kw_only=True)
class Ongoing:
    """The claim: the run that counts, known by its Job's uid."""

    slot: Annotated[UtcTime, Field(description="The slot that is run, the first of a batch.")]
    through: Annotated[
        UtcTime,
        Field(description="The last slot of the batch; the same as slot where the Job runs one."),
    ]
    job: Annotated[str, Field(description="The Job's name.", min_length=1)]
    uid: Annotated[
        str,
        Field(
            description="The Job's uid: a Job of the same name that was made again is another.",
            min_length=1,
        ),
    ]
    attempt: Annotated[_Number, Field(description="Which attempt at the slot this is, from 1.")] = 1
    since: Annotated[UtcTime | None, Field(description="When the run was claimed.")] = None


def _complete_claim(value: object) -> object:
    # A claim must not get lost for want of a detail: without it a run that goes on would not count.
    if isinstance(value, Mapping) and "slot" in value and "through" not in value:
        return {**value, "through": value["slot"]}
    return value


@dataclass(config=_CONFIG, frozen=True, slots=True, kw_only=True)
class LastError:
    """The newest failure, as far as a screen has room for it."""

    type: Annotated[
        _ShortText,
        Field(
            description="The exception's class, such as OperationalError, or how the run ended, such as"
            " TimedOut."
        ),
    ]
    value: Annotated[_ShortText, Field(description="The exception's message, or what happened.")] = ""
    traceback: Annotated[
        str,
        AfterValidator(_end_of(TRACEBACK_MAX_BYTES)),
        Field(description="The end of the traceback, at most 4 KiB."),
    ] = ""
    slot: Annotated[UtcTime | None, Field(description="The slot that failed.")] = None
    time: Annotated[UtcTime | None, Field(description="When it failed.")] = None
    job: Annotated[str, Field(description="The name of the Job that failed.")] = ""
    message: Annotated[
        _ShortText, Field(description="Type and value in one line, as the traceback ends.")
    ] = ""

    def __post_init__(self) -> None:
        """Fill in the message, which follows from the rest; a column can show one field only."""
        if not self.message:
            cut = _start_of(TEXT_MAX_CHARACTERS)
            object.__setattr__(self, "message", cut(failure_message(self.type, self.value)))


def failure_message(kind: str, value: str) -> str:
    """Say in a line how an attempt failed, by the type and the value of its error."""
    first = value.strip().split("\n", 1)[0]
    return f"{kind}: {first}" if first not in ("", kind) else kind


@dataclass(config=_CONFIG, frozen=True, slots=True, kw_only=True)
class Retry:
    """The failures of a slot that is tried again."""

    of: Annotated[
        str,
        Field(description="What failed, its generation and template: a mended one starts afresh."),
    ]
    failures: Annotated[_Counter, Field(description="How many attempts of this template failed.")] = 0
    not_before: Annotated[
        UtcTime | None,
        Field(description="When the next attempt may start. Absent: at once."),
    ] = None


@dataclass(config=_CONFIG, frozen=True, slots=True, kw_only=True)
class Disregarded:
    """What existed when the job was marked or reset, and so doesn't count any more."""

    jobs: Annotated[tuple[str, ...], Field(description="The uids of the Jobs that existed then.")] = ()
    successful_time: Annotated[
        UtcTime | None, Field(description="The CronJob's lastSuccessfulTime of then.")
    ] = None


@dataclass(config=_CONFIG, frozen=True, slots=True, kw_only=True)
class SkippedBy:
    """Why slots were skipped."""

    backfill_limit: Annotated[
        _Counter, Field(description="More slots were missed than backfillLimit allows.")
    ] = 0
    starting_deadline: Annotated[
        _Counter, Field(description="They could not start within startingDeadlineSeconds.")
    ] = 0
    retry_limit: Annotated[
        _Counter, Field(description="Their attempts used up retryLimit, in a job that Kubernetes runs alone.")
    ] = 0


@dataclass(config=_CONFIG, frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """A run that ended."""

    slot: Annotated[UtcTime, Field(description="The slot that was run.")]
    job: Annotated[str, Field(description="The Job's name.")] = ""
    attempt: Annotated[_Number, Field(description="Which attempt at the slot it was, from 1.")] = 1
    started: Annotated[UtcTime | None, Field(description="When the run started.")] = None
    finished: Annotated[UtcTime | None, Field(description="When the run ended.")] = None
    seconds: Annotated[float | None, Field(description="How long the run took.", allow_inf_nan=False)] = None
    result: Annotated[
        Result,
        Field(
            description="How it ended: Succeeded, Failed, TimedOut, OutOfMemory, Evicted, or Lost where its"
            " Job vanished."
        ),
    ]
    message: Annotated[_ShortText, Field(description="What there is to say about it, in a line.")] = ""


@dataclass(config=_CONFIG, frozen=True, slots=True, kw_only=True)
class CommandRecord:
    """A command given by annotation."""

    id: Annotated[
        _Cut,
        Field(
            description="The command's id, from the annotation crontabber.dev/command-id where that was"
            " given."
        ),
    ]
    name: Annotated[_ShortText, Field(description="The command: mark-success, reset or run-now.")]
    value: Annotated[_Cut, Field(description="The annotation's value, at most 2048 characters of it.")] = ""
    time: Annotated[UtcTime | None, Field(description="When the operator took it.")] = None
    result: Annotated[_ShortText, Field(description="What came of it.")] = ""


@dataclass(config=_CONFIG, frozen=True, slots=True, kw_only=True)
class Condition:
    """A metav1.Condition. Its `type` is a ConditionType, or another that someone else wrote."""

    type: Annotated[
        str,
        Field(
            description="The condition's name: Ready, LastRunSucceeded, CaughtUp or Stalled.",
            min_length=1,
            max_length=316,
        ),
    ]
    status: Annotated[
        str,
        Field(
            description="True, False or Unknown.",
            pattern="^(True|False|Unknown)$",
            json_schema_extra={"enum": ["True", "False", "Unknown"]},
        ),
    ]
    reason: Annotated[
        str,
        Field(
            description="Why, in one word for programs.",
            min_length=1,
            max_length=1024,
            pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        ),
    ]
    message: Annotated[
        str, AfterValidator(_start_of(32768)), Field(description="Why, in a sentence for people.")
    ] = ""
    last_transition_time: Annotated[UtcTime, Field(description="When the status changed last.")]
    observed_generation: Annotated[
        _Counter | None, Field(description="The metadata.generation that the condition speaks about.")
    ] = None


NOT_SEEN = -1
"""What a new resource has as `observedGeneration`, by the CRD's only default: tools see that it is not accepted yet."""


def _known_generation(value: object) -> object:
    return None if value == NOT_SEEN else value


@dataclass(config=_CONFIG, frozen=True, slots=True, kw_only=True)
class Status:
    """The bookkeeping. Make a changed copy with `dataclasses.replace`."""

    observed_generation: Annotated[
        Annotated[int, Field(ge=NOT_SEEN)] | None,
        BeforeValidator(_known_generation),
        Field(
            description="The metadata.generation that this status speaks about. -1: the operator has not seen"
            " the resource yet."
        ),
    ] = None
    schedule: Annotated[str, Field(description="When the job runs, as the column SCHEDULE shows it.")] = ""
    state: Annotated[
        State | None,
        Field(
            description="Where the job is, in a word: Waiting, Running, CatchingUp, Retrying,"
            " RetriesExhausted, Suspended or Invalid. For humans; programs read the conditions."
        ),
    ] = None
    first_run_time: Annotated[UtcTime | None, Field(description="When the first run started.")] = None
    last_run_time: Annotated[UtcTime | None, Field(description="When the newest run started.")] = None
    last_success_time: Annotated[
        UtcTime | None,
        Field(
            description="The last success: with backfill the newest slot that succeeded, otherwise when the"
            " last good run started. It is what a command gets with passLastSuccess."
        ),
    ] = None
    settled_through: Annotated[
        UtcTime | None,
        Field(description="Every slot at or before this time succeeded, was skipped or was marked."),
    ] = None
    next_run_time: Annotated[UtcTime | None, Field(description="The next slot.")] = None
    missed: Annotated[
        _Counter,
        Field(description="How many slots are due and have not succeeded yet."),
    ] = 0
    skipped: Annotated[
        _Counter,
        Field(
            description="How many slots were skipped, by backfillLimit or startingDeadlineSeconds, or given up"
            " at retryLimit."
        ),
    ] = 0
    skipped_by: Annotated[
        SkippedBy | None,
        Field(description="How many of them for which reason."),
    ] = None
    error_count: Annotated[_Counter, Field(description="How many runs failed since the last success.")] = 0
    last_error: Annotated[LastError | None, Field(description="The newest failure.")] = None
    ongoing: Annotated[
        Ongoing | None,
        BeforeValidator(_complete_claim),
        Field(description="The run that is claimed now."),
    ] = None
    retry: Annotated[
        Retry | None,
        Field(description="What the next attempt at a failed slot waits for."),
    ] = None
    disregarded: Annotated[
        Disregarded | None,
        Field(description="What existed at the newest mark-success or reset: it doesn't count any more."),
    ] = None
    history: Annotated[
        tuple[HistoryEntry, ...],
        AfterValidator(_newest),
        Field(description="The runs that ended, newest first, at most 10."),
    ] = ()
    last_commands: Annotated[
        tuple[CommandRecord, ...],
        AfterValidator(_newest),
        Field(description="The commands given by annotation, newest first, at most 10."),
    ] = ()
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            description="Ready: the job is accepted and scheduled. LastRunSucceeded. CaughtUp: no slot is"
            " missed. Stalled: a person must change the spec."
        ),
    ] = ()

    @classmethod
    def read(cls, raw: object) -> Self:
        """Read `status`, dropping what can't be read, field by field.

        A status edited by hand or written by another version must not stop the operator: what is lost is
        found again from what exists.
        """
        if not isinstance(raw, Mapping):
            return cls()
        try:
            return cast("Self", _STATUS.validate_python(raw))
        except ValidationError as error:
            return cast("Self", _read_rest(raw, error))

    def write(self) -> dict[str, Any]:
        """Return the JSON of `status`. What is absent is left out, so it must replace the old one whole."""
        return cast(
            "dict[str, Any]",
            _STATUS.dump_python(self, mode="json", by_alias=True, exclude_none=True),
        )

    def condition(self, kind: ConditionType) -> Condition | None:
        """Return the condition of this type."""
        return next((condition for condition in self.conditions if condition.type == kind), None)


def _read_rest(raw: Mapping[str, Any], error: ValidationError) -> Status:
    rest = {key: _copy(value) for key, value in raw.items()}
    while rest:
        places: set[tuple[int | str, ...]] = set()
        for detail in error.errors(include_url=False, include_context=False, include_input=False):
            # What lacks a required part is useless as a whole.
            place = detail["loc"][:-1] if detail["type"] == "missing" else detail["loc"]
            places.add(place)
        # Deepest first, and from the end of a list, so that no index moves before its turn.
        for place in sorted(places, key=_depth_and_place, reverse=True):
            _drop(rest, place)
        try:
            return _STATUS.validate_python(rest)
        except ValidationError as next_error:
            error = next_error
    return Status()


def _depth_and_place(
    place: tuple[int | str, ...],
) -> tuple[int, tuple[tuple[int, str], ...]]:
    return len(place), tuple((part, "") if isinstance(part, int) else (0, part) for part in place)


def _drop(rest: dict[str, Any], place: tuple[int | str, ...]) -> None:
    holder: Any = rest
    try:
        for part in place[:-1]:
            holder = holder[part]
        del holder[place[-1]]
    except (KeyError, IndexError, TypeError):
        # Its holder has gone already, or the place can't be found: then the field as a whole goes.
        rest.pop(str(place[0]) if place else "", None)


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(item) for item in value]
    return value


_SPEC = TypeAdapter(Spec)
_STATUS = TypeAdapter(Status)
