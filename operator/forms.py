"""The forms of the texts in a spec: a pattern, and the sentence for a text that doesn't match it.

Each is read alike by the API server (CEL, RE2) and by pydantic.
"""

from __future__ import annotations

import dataclasses
import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from crontabber_operator.schedule import FREQUENCY_PATTERN
from crontabber_operator.times import format_time, read_time


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """A regular expression that RE2 (the API server) and Rust (pydantic) read alike, and its sentence."""

    pattern: str
    sentence: str

    def cel(self) -> dict[str, str]:
        """Return the rule for the API server."""
        return cel_rule(f"self.matches({cel_text(self.pattern)})", self.sentence)


def cel_rule(rule: str, sentence: str) -> dict[str, str]:
    """Return a rule about a text; its message shows the text, where that is one line."""
    shown = f'"\'" + self + "\': " + {cel_text(sentence)}'
    return {"rule": rule, "message": sentence, "messageExpression": shown}


def cel_text(text: str) -> str:
    """Write a text as a CEL string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


COMMAND = Form(
    "^[A-Za-z_][A-Za-z0-9_-]*$",
    "must be the name of one management command, such as clearsessions: letters, digits, _ and -;"
    " what follows the name belongs into args",
)
FREQUENCY = Form(
    FREQUENCY_PATTERN,
    "must be a number and one of m, h and d, such as 45m, 1h or 7d, without blanks",
)
TIME_OF_DAY = Form(
    "^([01][0-9]|2[0-3]):[0-5][0-9]$",
    "must be HH:MM from 00:00 to 23:59 UTC, in quotes, such as '05:00'",
)
DATE_TIME = Form(
    "^(19[7-9][0-9]|2[01][0-9]{2})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    "T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$",
    "must be an RFC 3339 time from 1970 to 2199, such as 2026-11-24T08:00:00Z",
)
TIME_ZONE = Form(
    "^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$",
    "must be an IANA name such as Europe/Berlin, or UTC",
)
OPTION = Form(
    "^(--?[^-=$ \\t\\n\\r][^=$ \\t\\n\\r]*)?$",
    "must be an option such as --run-time, without = and blanks, or '' to pass it only where args mention it",
)
TIME_FORMAT = Form(
    "^([^%\\x00-\\x1f\\x7f]|%[%fzZ]|%-?[aAbBcCdDeFgGhHIjmMpRSTuUVwWxXyY])+$",
    "must be a strftime format with the directives that Python documents, such as %Y-%m-%dT%H:%M; write %%"
    " for a %",
)
GROUP_NAME = Form(
    "^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$",
    "must be letters, digits, -, _ and ., and begin and end with a letter or digit",
)
OBJECT_NAME = Form(
    "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    "must be the name of a Kubernetes object: small letters, digits, - and .",
)
CONTAINER_NAME = Form(
    "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    "must be the name of a container: small letters, digits and -",
)
SENTENCES = {
    form.pattern: form.sentence
    for form in (
        COMMAND,
        FREQUENCY,
        TIME_OF_DAY,
        TIME_ZONE,
        OPTION,
        TIME_FORMAT,
        GROUP_NAME,
        OBJECT_NAME,
        CONTAINER_NAME,
    )
}


def text(description: str, form: Form, max_length: int) -> Any:
    """Describe a field that holds a text of this form."""
    return Field(
        description=description,
        pattern=form.pattern,
        max_length=max_length,
        json_schema_extra={"x-kubernetes-validations": [dict(form.cel())]},
    )


def _read_date_time(value: object) -> datetime:
    if isinstance(value, str) and not re.fullmatch(DATE_TIME.pattern, value):
        raise ValueError(DATE_TIME.sentence)
    try:
        # By its offset it may be hours outside of the years that the form allows: then it is the first or the last.
        return read_time(datetime.fromisoformat(value) if isinstance(value, str) else value)
    except ValueError as error:
        raise ValueError(_NO_SUCH_DAY) from error


_NO_SUCH_DAY = "must be a day that exists, such as 2026-11-24T08:00:00Z"
GivenTime = Annotated[
    datetime,
    BeforeValidator(_read_date_time),
    PlainSerializer(format_time, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 64,
            "x-kubernetes-validations": [
                DATE_TIME.cel(),
                cel_rule(
                    f"!self.matches({cel_text(DATE_TIME.pattern)}) || timestamp(self).getFullYear() > 0",
                    _NO_SUCH_DAY,
                ),
            ],
        }
    ),
]
