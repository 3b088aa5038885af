"""What of an attempt's output becomes lastError."""

from __future__ import annotations

from typing import Any

import pytest

from crontabber_operator.failures import read_attempt
from crontabber_operator.models import LastError, Result

CHAIN = """\
Traceback (most recent call last):
  File "/app/reports/tasks.py", line 7, in fetch
    return table[key]
           ~~~~~^^^^^
KeyError: 'b'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/manage.py", line 22, in <module>
    main()
reports.errors.FetchError: no such key
DETAIL:  none"""


def pod(**terminated: Any) -> dict[str, Any]:
    """Return a failed pod."""
    state = {
        "terminated": {"exitCode": 1, "reason": "Error", "finishedAt": "2026-11-24T08:03:00Z", **terminated}
    }
    return {
        "metadata": {"name": "p", "uid": "u"},
        "spec": {"containers": [{"name": "web"}]},
        "status": {"phase": "Failed", "containerStatuses": [{"name": "web", "state": state}]},
    }


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (f"working\n{CHAIN}\n", ("FetchError", "no such key\nDETAIL:  none", CHAIN)),
        (
            f"working\n\x1b[31m{CHAIN}\x1b[0m\nSentry is attempting to send 1 pending events\n",
            ("FetchError", "no such key\nDETAIL:  none", CHAIN),
        ),
        (
            "working\nCommandError: not today\n",
            ("CommandError", "not today", "working\nCommandError: not today\n"),
        ),
        ("working\nall is lost\n", ("Exit1", "all is lost", "working\nall is lost\n")),
        ("", ("Exit1", "The command ended with exit code 1.", "")),
    ],
)
def test_last_error_has_what_ended_the_command(output: str, expected: tuple[str, str, str]) -> None:
    """Type, value and the whole chain's traceback; without one, all that is known of the output."""
    attempt = read_attempt(pod(), output)
    assert (attempt.type, attempt.value, attempt.traceback) == expected
    assert attempt.result is Result.FAILED


def test_termination_message_does_where_there_is_no_output() -> None:
    """A container that falls back to its log on errors leaves its end there."""
    attempt = read_attempt(pod(message=CHAIN), "")
    assert (attempt.type, attempt.traceback) == ("FetchError", CHAIN)


def test_kill_is_not_blamed_on_a_traceback_before() -> None:
    """What was logged before the memory ran out did not end the run; it is kept all the same."""
    attempt = read_attempt(pod(reason="OOMKilled", exitCode=137), CHAIN)
    assert (attempt.result, attempt.type) == (Result.OUT_OF_MEMORY, "OutOfMemory")
    assert attempt.traceback == CHAIN


def test_last_error_keeps_the_end_of_a_long_traceback() -> None:
    """At most 4 KiB, so that the exception itself is always there."""
    frames = "".join(f'  File "/app/a.py", line {number}, in f{number}\n' for number in range(1000))
    attempt = read_attempt(pod(), f"Traceback (most recent call last):\n{frames}ValueError: x\n")
    error = LastError(type=attempt.type, value=attempt.value, traceback=attempt.traceback)
    assert len(error.traceback.encode()) <= 4096
    assert error.traceback.endswith("in f999\nValueError: x")
    assert error.traceback.startswith('  File "/app/a.py"')
