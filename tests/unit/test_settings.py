"""The operator's settings: a flag wins over its variable, and what can't be used is said in a sentence."""

from __future__ import annotations

import pytest

from crontabber_operator.models import Defaults
from crontabber_operator.settings import Address, SettingError, Settings


def test_without_settings_there_are_defaults() -> None:
    """In a pod none is needed."""
    assert Settings.read({}, {}) == Settings(health=Address("", 8082), metrics=Address("", 8080))


@pytest.mark.parametrize(
    ("flag", "value", "field", "expected"),
    [
        ("namespace", "a,b c", "namespaces", ("a", "b", "c")),
        ("webapp", "deployment/site", "defaults", Defaults("site")),
        ("webapp-container", "app", "defaults", Defaults(container="app")),
        (
            "manage-py",
            "python 'my site/manage.py'",
            "defaults",
            Defaults(manage_py=("python", "my site/manage.py")),
        ),
        ("manage-py", "", "defaults", Defaults(manage_py=())),
        ("health", "off", "health", None),
        ("health", "[::1]:80", "health", Address("::1", 80)),
        ("metrics", "off", "metrics", None),
        ("metrics", "127.0.0.1:9090", "metrics", Address("127.0.0.1", 9090)),
        ("page", ":8081", "page", Address("", 8081)),
        ("page", "off", "page", None),
        ("log-format", "json", "log_format", "json"),
        ("max-concurrent-runs-per-namespace", "7", "max_concurrent_runs_per_namespace", 7),
        ("max-concurrent-runs-per-namespace", "none", "max_concurrent_runs_per_namespace", None),
        ("max-concurrent-runs-per-namespace", "", "max_concurrent_runs_per_namespace", None),
    ],
)
def test_each_flag_is_also_a_variable(flag: str, value: str, field: str, expected: object) -> None:
    """--log-format is CRONTABBER_LOG_FORMAT."""
    variable = f"CRONTABBER_{flag.upper().replace('-', '_')}"
    assert getattr(Settings.read({flag: value}, {}), field) == expected
    assert getattr(Settings.read({}, {variable: value}), field) == expected
    assert getattr(Settings.read({flag: value}, {variable: "nonsense"}), field) == expected


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("webapp", "site"),
        ("webapp", "statefulset/site"),
        ("webapp-container", "two words"),
        ("manage-py", "python 'manage.py"),
        ("health", "8082"),
        ("health", ":0"),
        ("metrics", "/metrics"),
        ("page", "on"),
        ("log-format", "xml"),
        ("max-concurrent-runs-per-namespace", "0"),
        ("max-concurrent-runs-per-namespace", "-1"),
        ("max-concurrent-runs-per-namespace", "1.5"),
        ("max-concurrent-runs-per-namespace", "٣"),
    ],
)
def test_what_can_not_be_used_is_said(flag: str, value: str) -> None:
    """With the flag's name, and what it takes."""
    with pytest.raises(SettingError, match=f"--{flag} takes"):
        Settings.read({flag: value}, {})
