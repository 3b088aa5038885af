"""The operator's settings: flags of `crontabber operator`, each also an environment variable.

`--log-format` is `CRONTABBER_LOG_FORMAT`; a flag wins over its variable. In a pod, and with a KUBECONFIG,
none is needed. `kopf run -m crontabber_operator.handlers` reads the variables.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from crontabber_operator.forms import CONTAINER_NAME
from crontabber_operator.logs import FORMATS
from crontabber_operator.models import DEFAULT_COMMAND_PREFIX, Defaults, Output

PREFIX = "CRONTABBER_"
DEFAULT_WEBAPP = "deployment/webapp"
DEFAULT_MANAGE_PY = shlex.join(DEFAULT_COMMAND_PREFIX)
DEFAULT_HEALTH = ":8082"
DEFAULT_LEASE = "crontabber"
DEFAULT_METRICS = ":8080"
_ON, _OFF = ("on", "true", "yes", "1"), ("off", "false", "no", "0", "")
_OBJECT_NAME = re.compile(r"([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/)?[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
MAX_RUNS = "max-concurrent-runs-per-namespace"


class SettingError(ValueError):
    """A setting can't be used; the message names the flag and what it takes."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; `host` empty: everywhere."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator was told."""

    namespaces: tuple[str, ...] = ()
    """None: all."""
    defaults: Defaults = field(default_factory=Defaults)
    """For jobs that don't say."""
    health: Address | None = None
    metrics: Address | None = None
    page: Address | None = None
    """The status page; None: there is none."""
    log_format: str = "text"
    output: Output = Output.ALL
    """What of the commands' output is logged, where a job doesn't say it."""
    reads_logs: bool = True
    """Read the logs of failed pods; not where nobody wants output: neither the log nor Sentry."""
    sentry_crons: bool = False
    """Tell Sentry Crons when runs begin and end."""
    sentry_secrets: bool = True
    """Read a namespace's own DSN from its Secret."""
    max_concurrent_runs_per_namespace: int | None = None
    """None: any number."""
    leader_election: bool = False
    """Decide only while holding the Lease."""
    lease: str = DEFAULT_LEASE
    """`[NAMESPACE/]NAME`."""

    @classmethod
    def read(cls, flags: Mapping[str, str | None], environment: Mapping[str, str] = os.environ) -> Settings:
        """Merge flags (by their name without dashes in front; None: not given) with the environment.

        Raises SettingError.
        """

        def value(flag: str, default: str) -> str:
            given = flags.get(flag)
            if given is None:
                given = environment.get(PREFIX + flag.upper().replace("-", "_"))
            return default if given is None else given

        output = Output(_choice("output", value("output", Output.ALL), tuple(Output)))
        sentry_secrets = _switch("sentry-secrets", value("sentry-secrets", "on"))
        return cls(
            namespaces=tuple(name for name in value("namespace", "").replace(",", " ").split() if name),
            defaults=Defaults(
                webapp=_workload(value("webapp", DEFAULT_WEBAPP)),
                container=_container("webapp-container", value("webapp-container", "")),
                manage_py=words("manage-py", value("manage-py", DEFAULT_MANAGE_PY)),
            ),
            health=_address("health", value("health", DEFAULT_HEALTH)),
            metrics=_address("metrics", value("metrics", DEFAULT_METRICS)),
            page=_address("page", value("page", "off")),
            log_format=_choice("log-format", value("log-format", "text"), FORMATS),
            output=output,
            reads_logs=output is not Output.NONE or sentry_secrets or bool(environment.get("SENTRY_DSN")),
            sentry_crons=_switch("sentry-crons", value("sentry-crons", "off")),
            sentry_secrets=sentry_secrets,
            max_concurrent_runs_per_namespace=_limit(MAX_RUNS, value(MAX_RUNS, "")),
            leader_election=_switch("leader-election", value("leader-election", "off")),
            lease=_object_name("lease", value("lease", DEFAULT_LEASE)),
        )


def _workload(text: str) -> str:
    kind, slash, name = text.partition("/")
    if not slash or kind.lower() != "deployment" or not name:
        message = f"--webapp takes deployment/NAME, not {text!r}"
        raise SettingError(message)
    return name


def _container(flag: str, text: str) -> str | None:
    if text and not re.fullmatch(CONTAINER_NAME.pattern, text):
        message = f"--{flag} takes the name of a container, or '' for the first, not {text!r}"
        raise SettingError(message)
    return text or None


def words(flag: str, text: str) -> tuple[str, ...]:
    """Split what is quoted as for a shell. Raises SettingError."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        message = f"--{flag} takes words quoted as for a shell, not {text!r}: {error}"
        raise SettingError(message) from error


def _object_name(flag: str, text: str) -> str:
    if not _OBJECT_NAME.fullmatch(text):
        message = f"--{flag} takes NAME or NAMESPACE/NAME in small letters, digits, '-' and '.', not {text!r}"
        raise SettingError(message)
    return text


def _address(flag: str, text: str) -> Address | None:
    if text in ("", "off"):
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        message = f"--{flag} takes HOST:PORT or :PORT, or 'off', not {text!r}"
        raise SettingError(message)
    return Address(host.strip("[]"), int(port))


def _limit(flag: str, text: str) -> int | None:
    if text in ("", "none"):
        return None
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 1_000_000:
        message = f"--{flag} takes a number from 1, or 'none', not {text!r}"
        raise SettingError(message)
    return int(text)


def _choice(flag: str, text: str, accepted: tuple[str, ...]) -> str:
    if text not in accepted:
        message = f"--{flag} takes {', '.join(accepted)}, not {text!r}"
        raise SettingError(message)
    return text


def _switch(flag: str, text: str) -> bool:
    word = text.strip().lower()
    if word in _ON or word in _OFF:
        return word in _ON
    message = f"--{flag} takes on or off, not {text!r}"
    raise SettingError(message)
