"""Speaks with a cluster's supervisor. Starts and decides nothing by itself."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from devcluster.ports import ADDRESS
from devcluster.protocol import ComponentSpec, ComponentStatus

if TYPE_CHECKING:
    import signal


class ControlError(Exception):
    """The supervisor could not be reached, or refused; the message says which."""


class SupervisorGoneError(ControlError):
    """Nothing listens where the supervisor did: it ended, and with it the cluster."""


class Control:
    """The operations of a supervisor; each answers at once. All raise ControlError."""

    def __init__(self, port: int, secret: str) -> None:
        self._port = port
        self._secret = secret

    def components(self) -> list[ComponentStatus]:
        """Return what became of each component that was ever started."""
        return [ComponentStatus(**each) for each in self._ask("status")["components"]]

    def start(self, spec: ComponentSpec) -> int:
        """Start a component and return its process number."""
        return int(self._ask("start", spec=asdict(spec))["pid"])

    def spec(self, name: str) -> ComponentSpec:
        """Return how this component was last started."""
        return ComponentSpec(**self._ask("spec", name=name)["spec"])

    def signal(self, name: str, number: signal.Signals, *, asked: str = "") -> None:
        """Send a signal to a component; `asked` is the state it is to be told in should it end."""
        self._ask("signal", name=name, signal=int(number), asked=asked)

    def detach(self) -> None:
        """Let the cluster live on when the process that started it ends."""
        self._ask("detach")

    def end(self) -> None:
        """Begin to end the cluster."""
        self._ask("end")

    def _ask(self, operation: str, **details: object) -> dict[str, Any]:
        request = {"secret": self._secret, "operation": operation, **details}
        try:
            with (
                socket.create_connection((ADDRESS, self._port), timeout=10) as connection,
                connection.makefile("rwb") as stream,
            ):
                stream.write(json.dumps(request).encode() + b"\n")
                stream.flush()
                answer = json.loads(stream.readline())
        except ConnectionRefusedError as error:
            message = f"there is no supervisor on port {self._port}"
            raise SupervisorGoneError(message) from error
        except (OSError, ValueError) as error:
            message = f"the supervisor on port {self._port} does not answer: {error}"
            raise ControlError(message) from error
        if "error" in answer:
            raise ControlError(str(answer["error"]))
        return dict(answer)
