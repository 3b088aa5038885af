"""The operator's settings: flags, variables, and what they refuse."""

from __future__ import annotations

import argparse

import pytest

from crontabber_operator import serve
from crontabber_operator.settings import SettingError, Settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [("on", True), ("true", True), ("1", True), (" Yes ", True), ("off", False), ("0", False), ("", False)],
)
def test_a_switch_reads_the_words_that_people_use(text: str, expected: bool) -> None:
    """By flag and by variable alike; the flag wins."""
    assert Settings.read({"sentry-crons": text}, {}).sentry_crons is expected
    assert Settings.read({}, {"CRONTABBER_SENTRY_CRONS": text}).sentry_crons is expected
    assert (
        Settings.read({"sentry-secrets": text}, {"CRONTABBER_SENTRY_SECRETS": "on"}).sentry_secrets
        is expected
    )


def test_a_switch_refuses_what_it_does_not_know() -> None:
    """With a sentence that names the flag."""
    with pytest.raises(SettingError, match="--sentry-crons takes on or off, not 'maybe'"):
        Settings.read({"sentry-crons": "maybe"}, {})


def test_check_ins_cost_money_so_they_are_off_and_secrets_are_read_unless_told() -> None:
    """What holds where nothing is said."""
    settings = Settings.read({}, {})
    assert (settings.sentry_crons, settings.sentry_secrets) == (False, True)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], False),
        (["--sentry-crons"], True),
        (["--sentry-crons=off"], False),
        (["--sentry-crons", "--namespace=a"], True),
    ],
)
def test_the_flag_alone_turns_check_ins_on(arguments: list[str], expected: bool) -> None:
    """`--sentry-crons` needs no value."""
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    given = parser.parse_args(["operator", *arguments])
    assert Settings.read({"sentry-crons": given.sentry_crons}, {}).sentry_crons is expected
