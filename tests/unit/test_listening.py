"""Those who listen hear everything, and none of them can disturb the work."""

from __future__ import annotations

import inspect
import logging

import pytest

from crontabber_operator.listening import Listener, Listeners
from crontabber_operator.store import Key

KEY = Key("shop", "report")
HEARD = [name for name, _ in inspect.getmembers(Listener, inspect.isfunction) if not name.startswith("_")]


class _Notebook(Listener):
    def __init__(self) -> None:
        self.forgot: list[Key] = []

    def forgotten(self, key: Key) -> None:
        self.forgot.append(key)


class _Broken(Listener):
    def forgotten(self, key: Key) -> None:
        raise KeyError(key)


def test_all_hear_it() -> None:
    """Also those that came later."""
    first, later = _Notebook(), _Notebook()
    listeners = Listeners(first)
    listeners.add(later)
    listeners.forgotten(KEY)
    assert first.forgot == later.forgot == [KEY]


def test_what_a_listener_raises_is_logged_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The next one hears it, too."""
    notebook = _Notebook()
    with caplog.at_level(logging.ERROR):
        Listeners(_Broken(), notebook).forgotten(KEY)
    assert notebook.forgot == [KEY]
    assert "_Broken did not take 'forgotten'" in caplog.text


@pytest.mark.parametrize("name", HEARD)
def test_everything_is_passed_on(name: str) -> None:
    """A method that was forgotten in Listeners would silently tell nobody."""
    assert name in vars(Listeners)
    heard: list[tuple[object, ...]] = []
    listener = Listener()
    setattr(listener, name, lambda *arguments: heard.append(arguments))
    arguments = tuple(object() for _ in list(inspect.signature(getattr(Listener, name)).parameters)[1:])
    getattr(Listeners(listener), name)(*arguments)
    assert heard == [arguments]
