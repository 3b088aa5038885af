"""Owns the processes of one cluster, and ends them all when it is told to or when its owner ends.

Run as `python -m devcluster.supervisor`; it forks into two. The *supervisor* starts components, tells of
those that died, and ends all. The *guardian*, its parent, only ends what is left should the supervisor itself
be killed. It restarts nothing, decides nothing about Kubernetes, and has no threads (the kernel ends children
with the thread that started them).

It answers one JSON line for one JSON line on its loopback socket; a request carries the cluster's secret.
"""

from __future__ import annotations

import argparse
import contextlib
import hmac
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from devcluster.processes import (
    ProcessIdentity,
    adopt_orphans,
    descendants,
    end_with_parent,
    kill_all,
    of_session,
    reap_children,
)
from devcluster.protocol import ComponentSpec, ComponentStatus

_REQUEST_TIMEOUT_SECONDS = 1.0

#: How often the supervisor looks whether its guardian lives, where the kernel does not tell it (macOS).
_GUARDIAN_CHECK_SECONDS = 1.0


@dataclass(slots=True)
class _Component:
    spec: ComponentSpec
    pid: int = 0
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    exit_code: int | None = None
    asked: str = ""
    """The state to tell once it ended, when its end was asked for."""

    @property
    def runs(self) -> bool:
        return self.pid != 0 and self.exit_code is None

    def status(self) -> ComponentStatus:
        if self.exit_code is not None:
            state = self.asked or "died"
        else:
            state = "running"
            with contextlib.suppress(psutil.NoSuchProcess):
                if psutil.Process(self.pid).status() == psutil.STATUS_STOPPED:
                    state = "paused"
        since = self.since.isoformat(timespec="seconds").replace("+00:00", "Z")
        return ComponentStatus(self.spec.name, state, self.pid, since, self.exit_code)


class Supervisor:
    """Starts, signals and ends components; single-threaded, everything happens in `run`."""

    def __init__(self, listener: socket.socket, lifeline: int, secret: str) -> None:
        self._listener = listener
        self._lifeline: int | None = lifeline
        self._secret = secret
        self._components: dict[str, _Component] = {}
        self._guardian = os.getppid()
        self._selector = selectors.DefaultSelector()
        self._ending = False
        self.owner_ended = False

    def run(self) -> None:
        """Serve until told to end (by request, SIGTERM or SIGINT), or until owner or guardian ended."""
        adopt_orphans()
        wake_read, wake_write = os.pipe()
        for end in (wake_read, wake_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end_on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(wake_read, selectors.EVENT_READ)
        if self._lifeline is not None:
            self._selector.register(self._lifeline, selectors.EVENT_READ)
        while not self._ending:
            for key, _ in self._selector.select(_GUARDIAN_CHECK_SECONDS):
                if key.fd == wake_read:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake_read, 4096)
                elif key.fd == self._lifeline:  # nothing is ever written to it: its end is closed
                    self.owner_ended = self._ending = True
                else:
                    self._serve_one()
            self._reap()
            if os.getppid() != self._guardian:
                self._ending = True
        self._end_all()

    def _end_on_signal(self, *_: object) -> None:
        self._ending = True

    def _detach(self) -> None:
        """Live on when the owner ends."""
        if self._lifeline is not None:
            self._selector.unregister(self._lifeline)
            os.close(self._lifeline)
            self._lifeline = None

    def _serve_one(self) -> None:
        """Answer one connection; a client that is slow, wrong or gone must not stop the supervisor."""
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(_REQUEST_TIMEOUT_SECONDS)
                with connection.makefile("rwb") as stream:
                    try:
                        answer = self._answer(json.loads(stream.readline()))
                    except (ValueError, KeyError, TypeError, OSError) as error:
                        answer = {"error": f"{type(error).__name__}: {error}"}
                    stream.write(json.dumps(answer).encode() + b"\n")

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if not hmac.compare_digest(str(request["secret"]).encode(), self._secret.encode()):
            return {"error": "wrong secret"}
        self._reap()
        answer: dict[str, Any] = {}
        match request["operation"]:
            case "status":
                answer = {"components": [asdict(each.status()) for each in self._components.values()]}
            case "start":
                answer = self._start(ComponentSpec(**request["spec"]))
            case "spec":
                answer = {"spec": asdict(self._components[request["name"]].spec)}
            case "signal":
                answer = self._signal(request["name"], signal.Signals(request["signal"]), request["asked"])
            case "detach":
                self._detach()
            case "end":
                self._ending = True
            case other:
                answer = {"error": f"unknown operation {other!r}"}
        return answer

    def _start(self, spec: ComponentSpec) -> dict[str, Any]:
        known = self._components.get(spec.name)
        if known is not None and known.runs:
            return {"error": f"{spec.name} runs already (pid {known.pid})"}
        with Path(spec.log).open("ab") as log:
            log.write(f"--- {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {' '.join(spec.command)}\n".encode())
            log.flush()
            process = subprocess.Popen(
                spec.command,
                env=spec.environment,
                cwd=Path(spec.log).parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=end_with_parent(signal.SIGKILL),  # noqa: PLW1509 - there are no threads here
            )
        process.returncode = 0  # reaped here by waitpid, like the adopted ones: Popen must not wait for it
        self._components[spec.name] = _Component(spec, process.pid)
        return {"pid": process.pid}

    def _signal(self, name: str, number: signal.Signals, asked: str) -> dict[str, Any]:
        component = self._components[name]
        if not component.runs:
            return {"error": f"{name} does not run"}
        if asked:
            component.asked = asked
        os.kill(component.pid, number)
        return {}

    def _reap(self) -> None:
        codes = reap_children()
        for component in self._components.values():
            if component.runs and component.pid in codes:
                component.exit_code = codes[component.pid]
                component.since = datetime.now(UTC)
                if component.spec.grace_seconds:
                    self._kill_orphans()

    def _kill_orphans(self) -> None:
        """Kill what a component that ended has left: a machine's processes end with the machine."""
        own = {component.pid for component in self._components.values() if component.runs}
        kill_all(
            lambda: [child for child in psutil.Process().children() if child.pid not in own], within_seconds=5
        )

    def _end_all(self) -> None:
        """End all components and all that they started."""
        for component in self._components.values():
            if component.runs and component.spec.grace_seconds:
                os.kill(component.pid, signal.SIGTERM)
                os.kill(component.pid, signal.SIGCONT)  # a paused one could not end by itself
        grace = max((each.spec.grace_seconds for each in self._components.values()), default=0)
        deadline = time.monotonic() + grace
        while time.monotonic() < deadline:
            self._reap()
            if not any(each.runs and each.spec.grace_seconds for each in self._components.values()):
                break
            time.sleep(0.02)
        kill_all(lambda: psutil.Process().children(recursive=True))
        reap_children()


def _guard(supervisor: int, state: Path) -> None:
    """Wait for the supervisor's end, kill all that is left, and remove the state if the owner ended."""
    me = ProcessIdentity.of(os.getpid())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.kill(supervisor, signal.SIGTERM))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    code = None
    while code is None:
        pid, status = os.waitpid(-1, 0)
        if pid == supervisor:
            code = os.waitstatus_to_exitcode(status)
    kill_all(lambda: [*descendants(me.pid), *of_session(me)])
    reap_children()
    if code == OWNER_ENDED:
        # Moved first, so that a new cluster of the name never meets a half-removed folder.
        ended = state.with_name(f".{state.name}.ended-{me.pid}")
        state.rename(ended)
        shutil.rmtree(ended, ignore_errors=True)


#: The supervisor's exit code when it ended because its owner did.
OWNER_ENDED = 3


def main() -> None:
    """Run the guardian and the supervisor of one cluster."""
    parser = argparse.ArgumentParser(prog="devcluster.supervisor")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--lifeline-fd", type=int, required=True)
    arguments = parser.parse_args()
    # Neither descriptor may reach the components: one that held the socket would hold the block of ports.
    os.set_inheritable(arguments.listen_fd, False)
    os.set_inheritable(arguments.lifeline_fd, False)
    secret = json.loads((arguments.state / "cluster.json").read_text(encoding="utf-8"))["secret"]
    adopt_orphans()
    before_supervising = end_with_parent(signal.SIGTERM)
    child = os.fork()
    if child != 0:
        os.close(arguments.listen_fd)
        os.close(arguments.lifeline_fd)
        _guard(child, arguments.state)
        return
    before_supervising()
    supervisor = Supervisor(socket.socket(fileno=arguments.listen_fd), arguments.lifeline_fd, secret)
    supervisor.run()
    sys.exit(OWNER_ENDED if supervisor.owner_ended else 0)


if __name__ == "__main__":
    main()
