"""The rules about a spec that no single field can have, and the sentence for every mistake.

A rule stands here once: the CEL for the API server, and the same in Python for resources that an older CRD let
through. Each sentence names the field and the mend.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from crontabber_operator.forms import FREQUENCY, SENTENCES, cel_text
from crontabber_operator.schedule import MAX_FREQUENCY, ScheduleError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from crontabber_operator.models import Spec

NAME_MAX_LENGTH = 48
"""So that `<name>-<unix minutes>-<attempt>` fits into the 63 characters of a Job's name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """A rule about several fields: CEL on `spec` for the API server, the same in Python for `Spec.read`."""

    field: str
    """The field that is to be mended, in the resource's spelling."""
    reason: str
    """How the API server classes it: FieldValueInvalid, FieldValueForbidden, FieldValueRequired."""
    sentence: str
    cel: str
    holds: Callable[[Spec], bool]


_MAX_DAYS = MAX_FREQUENCY // timedelta(days=1)
_MAX_HOURS = MAX_FREQUENCY // timedelta(hours=1)
_MAX_MINUTES = MAX_FREQUENCY // timedelta(minutes=1)


def _at_most_a_year(spec: Spec) -> bool:
    if spec.frequency is None:
        return True
    largest = {"d": _MAX_DAYS, "h": _MAX_HOURS, "m": _MAX_MINUTES}[spec.frequency[-1]]
    return int(spec.frequency[:-1]) <= largest


RULES = (
    Rule(
        "schedule",
        "FieldValueRequired",
        "give schedule, a cron expression such as '0 5 * * *', or frequency, such as 1h or 7d",
        "has(self.schedule) || has(self.frequency)",
        lambda spec: spec.schedule is not None or spec.frequency is not None,
    ),
    Rule(
        "frequency",
        "FieldValueForbidden",
        "can't be given together with schedule: remove one of the two",
        "!(has(self.schedule) && has(self.frequency))",
        lambda spec: spec.schedule is None or spec.frequency is None,
    ),
    Rule(
        "frequency",
        "FieldValueInvalid",
        f"must be at most {_MAX_DAYS}d ({_MAX_HOURS}h, {_MAX_MINUTES}m): write what is rarer as a schedule"
        " with a date, such as '0 5 1 1 *'",
        f"!has(self.frequency) || !self.frequency.matches({cel_text(FREQUENCY.pattern)})"
        " || int(self.frequency.substring(0, self.frequency.size() - 1))"
        f" <= (self.frequency.endsWith('d') ? {_MAX_DAYS} : self.frequency.endsWith('h') ? {_MAX_HOURS}"
        f" : {_MAX_MINUTES})",
        _at_most_a_year,
    ),
    Rule(
        "timeZone",
        "FieldValueForbidden",
        "goes only with schedule, a frequency is always UTC: remove it, or replace frequency by schedule",
        "!has(self.timeZone) || !has(self.frequency)",
        lambda spec: spec.time_zone is None or spec.frequency is None,
    ),
    Rule(
        "time",
        "FieldValueForbidden",
        "goes only with a frequency in days, such as 1d: remove it, or write the time into schedule",
        "!has(self.time) || (has(self.frequency) && self.frequency.endsWith('d'))",
        lambda spec: spec.time is None or (spec.frequency is not None and spec.frequency.endswith("d")),
    ),
    Rule(
        "template",
        "FieldValueForbidden",
        "can't be given together with webapp: remove one of the two",
        "!(has(self.webapp) && has(self.template))",
        lambda spec: spec.webapp is None or spec.template is None,
    ),
    Rule(
        "backfillSince",
        "FieldValueForbidden",
        "needs backfill: true; add that or remove this",
        "!has(self.backfillSince) || (has(self.backfill) && self.backfill)",
        lambda spec: spec.backfill_since is None or spec.backfill,
    ),
    Rule(
        "backfillLimit",
        "FieldValueForbidden",
        "needs backfill: true; add that or remove this",
        "!has(self.backfillLimit) || (has(self.backfill) && self.backfill)",
        lambda spec: spec.backfill_limit is None or spec.backfill,
    ),
    Rule(
        "backfillBatch",
        "FieldValueForbidden",
        "needs backfill: true; add that or remove this",
        "!has(self.backfillBatch) || self.backfillBatch == 1 || (has(self.backfill) && self.backfill)",
        lambda spec: spec.backfill_batch == 1 or spec.backfill,
    ),
    Rule(
        "retryMaxDelaySeconds",
        "FieldValueInvalid",
        "must be at least retryDelaySeconds: raise this or lower that",
        "!has(self.retryMaxDelaySeconds) || !has(self.retryDelaySeconds)"
        " || self.retryMaxDelaySeconds >= self.retryDelaySeconds",
        lambda spec: (
            spec.retry_delay_seconds is None
            or spec.retry_max_delay_seconds is None
            or spec.retry_max_delay_seconds >= spec.retry_delay_seconds
        ),
    ),
)


def mistakes(spec: Spec, name: str) -> Iterator[str]:
    """Yield a sentence for each mistake that no field shows by itself."""
    if len(name) > NAME_MAX_LENGTH:
        yield f"metadata.name: must be at most {NAME_MAX_LENGTH} characters: shorten it"
    broken = [rule for rule in RULES if not rule.holds(spec)]
    yield from (f"spec.{rule.field}: {rule.sentence}" for rule in broken)
    if not broken:
        yield from _schedule_mistakes(spec)
    for field, texts in (("args", spec.args), ("managePy", spec.manage_py or ())):
        for index, text in enumerate(texts):
            if "\0" in text:
                yield f"spec.{field}[{index}]: no argument can hold the character NUL: remove it"
    names = [dependency.name for dependency in spec.depends_on]
    for index, dependency in enumerate(names):
        if dependency == name:
            yield f"spec.dependsOn[{index}].name: a job can't depend on itself: remove it"
        if dependency in names[:index]:
            yield f"spec.dependsOn[{index}].name: {dependency} is there twice: remove one"
    if spec.template is not None:
        yield from _template_mistakes(spec.template)


def _schedule_mistakes(spec: Spec) -> Iterator[str]:
    try:
        _ = spec.slots
    except ScheduleError as error:
        yield f"spec.{error}"  # it begins with the field


def _template_mistakes(template: Mapping[str, Any]) -> Iterator[str]:
    pod = template.get("spec")
    containers = pod.get("containers") if isinstance(pod, Mapping) else None
    if not isinstance(containers, list) or not containers:
        yield "spec.template.spec.containers: must have at least one container"
        return
    for index, container in enumerate(containers):
        if not isinstance(container, Mapping) or not container.get("name"):
            yield f"spec.template.spec.containers[{index}].name: must be given"
        elif not container.get("image"):
            yield f"spec.template.spec.containers[{index}].image: must be given"


def sentence(detail: ErrorDetails) -> str:
    """Turn one of pydantic's errors into a sentence that names the field in the resource's spelling."""
    path = "spec"
    for part in detail["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    context = detail.get("ctx", {})
    if detail["type"] == "string_pattern_mismatch":
        return f"{path}: {SENTENCES[context['pattern']]}"
    return f"{path}: {_MENDS.get(detail['type'], '{error}').format(**{'error': detail['msg'], **context})}"


_MENDS = {
    "missing": "must be given",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must not be empty",
    "too_long": "must have at most {max_length} items",
    "string_type": "must be a text: put it in quotes",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "enum": "must be {expected}",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "dataclass_type": "must be a mapping",
    "value_error": "{error}",
}
