"""What holds for all tests."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import wraps
from typing import Literal, TypeAlias

import pytest
from _pytest import runner

When: TypeAlias = Literal["setup", "call", "teardown"] | None
Update: TypeAlias = Callable[[pytest.Item, When], None]


def pytest_configure(config: pytest.Config) -> None:
    """Give Ctrl-C and hang-up back their meaning, which a shell takes from what it starts in the background.

    Children inherit it, and tests send these signals to theirs. And leave the environment's names as they are.
    """
    update = runner._update_current_test_var  # noqa: SLF001 - pytest has no setting for that
    runner._update_current_test_var = _never_taken_away(update)  # noqa: SLF001
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _never_taken_away(update: Update) -> Update:
    """Have PYTEST_CURRENT_TEST only ever set: a test in a thread may copy the environment as it would be removed."""

    @wraps(update)
    def only_set(item: pytest.Item, when: When) -> None:
        if when is not None:
            update(item, when)

    return only_set
