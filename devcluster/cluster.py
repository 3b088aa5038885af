"""A cluster: started, looked after and ended from Python, by the command line, the tests and the benchmarks.

Says what is to run and waits until it serves. The processes themselves belong to the supervisor.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import re
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil

from devcluster import build, components
from devcluster import images as images_module
from devcluster.certificates import KeyFiles, write_keys
from devcluster.components import API_SERVER, CONTROLLER_MANAGER, ETCD, NODE, Layout
from devcluster.control import Control, ControlError
from devcluster.images import LocalImage
from devcluster.paths import IMPORT_ROOT, state_root, write_atomically
from devcluster.ports import ADDRESS, NoFreePortsError, Ports, allocate
from devcluster.processes import ProcessIdentity, descendants, kill_all, of_session
from devcluster.supervisor import ComponentSpec, ComponentStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")

_READY_TIMEOUT_SECONDS = 120.0
_STOP_TIMEOUT_SECONDS = 15.0
_POLL_SECONDS = 0.05

#: How long the node may take to end its pods' processes when the cluster ends.
_NODE_GRACE_SECONDS = 5.0

_TAIL_LINES = 15


class ClusterError(Exception):
    """A cluster could not be started, found or used; the message says why and how to mend it."""


class NoClusterError(ClusterError):
    """There is no cluster of this name that is up."""


class AlreadyUpError(ClusterError):
    """A cluster of this name is up already."""


@dataclass(frozen=True, slots=True)
class _Description:
    """What is written down about a cluster, so that other processes find it."""

    name: str
    node_kind: str
    ports: Ports
    secret: str
    started: str
    guardian: ProcessIdentity | None

    def text(self) -> str:
        guardian = self.guardian
        return json.dumps(
            {
                "name": self.name,
                "node": self.node_kind,
                "port": self.ports.control,
                "secret": self.secret,
                "started": self.started,
                "guardian": {"pid": guardian.pid, "created": guardian.created} if guardian else None,
            },
            indent=2,
        )

    @classmethod
    def read(cls, path: Path) -> _Description | None:
        """Return what is written there; None when there is nothing, or it was cut off by a crash."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            guardian = ProcessIdentity(**data["guardian"]) if data["guardian"] else None
            return cls(data["name"], data["node"], Ports(data["port"]), data["secret"], data["started"], guardian)
        except (OSError, ValueError, KeyError, TypeError):
            return None


class Cluster:
    """One running cluster: made by `start` or `attach`; as a context manager it is stopped at the end.

    Components are called `etcd`, `kube-apiserver`, `kube-controller-manager` and `node`.
    """

    def __init__(
        self, description: _Description, *, process: subprocess.Popen[bytes] | None = None, lifeline: int | None = None
    ) -> None:
        self._description = description
        self._control = Control(description.ports.control, description.secret)
        self._process = process
        self._lifeline = lifeline
        self._layout = Layout(state_root() / description.name)

    @classmethod
    def start(
        cls,
        name: str = "dev",
        *,
        node: str = "process",
        images: Mapping[str, LocalImage | str | Path] | None = None,
        controller_manager_flags: Sequence[str] = (),
        api_server_flags: Sequence[str] = (),
        audit: bool = False,
        keep: bool = False,
    ) -> Cluster:
        """Start a cluster and return when it is ready to run Jobs; builds what isn't built yet.

        `node`: `process`, `instant` or `none`. `images`: image name to directory, or `LocalImage`. Flags are
        added to the component's own; of two the last counts. `audit`: each request is logged to `audit_log`.
        Without `keep` the cluster ends with this process, even if that is killed; with it, by `stop` only.

        Raises AlreadyUpError, ClusterError, build.BuildError and images.ImageError.
        """
        _check_name(name)
        if node not in components.NODE_KINDS:
            message = f"{node!r} is no kind of node: {', '.join(components.NODE_KINDS)}"
            raise ClusterError(message)
        image_map = _image_map(images or {})
        binaries = build.binaries()
        with _locked(name):
            existing = _Description.read(Layout(state_root() / name).description)
            if existing is not None and _is_up(existing):
                message = f"the cluster {name!r} is up already: {_command('down', name)} takes it down"
                raise AlreadyUpError(message)
            _remove(name, existing)
            cluster = cls._launch(name, node)
            try:
                cluster._write_configuration(image_map)
                cluster._start_components(binaries, audit, tuple(api_server_flags), tuple(controller_manager_flags))
                if keep:
                    cluster._detach()
            except ControlError as error:
                message = f"the supervisor of {name!r} ended while the cluster was started: {error}"
                raise ClusterError(message + tail(cluster.log_path("supervisor"))) from error
            finally:
                if sys.exc_info()[1] is not None:
                    cluster._end()
        return cluster

    @classmethod
    def attach(cls, name: str = "dev") -> Cluster:
        """Return a cluster that is up, whoever started it. Raises NoClusterError."""
        _check_name(name)
        description = _Description.read(Layout(state_root() / name).description)
        if description is None:
            message = f"there is no cluster {name!r}: {_command('up', name)} starts it"
            raise NoClusterError(message)
        if not _is_up(description):
            message = f"the cluster {name!r} ended without being taken down (a crash, a reboot): {_command('up', name)} starts it anew"
            raise NoClusterError(message)
        return cls(description)

    # --- what it is ---

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self._description.name

    @property
    def node_kind(self) -> str:
        """How pods are run."""
        return self._description.node_kind

    @property
    def node_name(self) -> str:
        """What the node is called in Kubernetes."""
        return f"devcluster-{self.name}"

    @property
    def context(self) -> str:
        """The context's name in the kubeconfig: tests refuse any other than `devcluster-…`."""
        return f"devcluster-{self.name}"

    @property
    def ports(self) -> Ports:
        """The cluster's ports, all on 127.0.0.1."""
        return self._description.ports

    @property
    def state_dir(self) -> Path:
        """The folder of all that the cluster keeps; removed by `stop`."""
        return self._layout.folder

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self._layout.kubeconfig

    @property
    def audit_log(self) -> Path:
        """One JSON line for each answered request, where the cluster was started with `audit`."""
        return self._layout.audit_log

    def log_path(self, component: str) -> Path:
        """The file that a component's output goes to; also of `supervisor`."""
        return self._layout.log(component)

    @property
    def images(self) -> dict[str, LocalImage]:
        """The image map."""
        return images_module.read(self._layout.images)

    def set_images(self, images: Mapping[str, LocalImage | str | Path]) -> None:
        """Replace the image map; the node takes it for the containers that it starts from now on."""
        images_module.write(self._layout.images, _image_map(images))

    def components(self) -> list[ComponentStatus]:
        """Return what became of each component. Raises ControlError when the supervisor is gone."""
        return self._control.components()

    # --- what is done with it ---

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 60) -> str:
        """Run kubectl as the administrator and return its standard output. Raises ClusterError."""
        command = [str(build.path_of("kubectl")), *arguments]
        try:
            result = subprocess.run(
                command,
                env=os.environ | {"KUBECONFIG": str(self.kubeconfig)},
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout_seconds,
            )
        except subprocess.TimeoutExpired as error:
            message = f"`kubectl {' '.join(arguments)}` did not end within {timeout_seconds:g} s"
            raise ClusterError(message) from error
        if result.returncode != 0:
            message = f"`kubectl {' '.join(arguments)}` failed: {result.stderr.strip() or result.stdout.strip()}"
            raise ClusterError(message)
        return result.stdout

    def kill(self, component: str) -> None:
        """End a component with SIGKILL, as a crash does. It stays down until `start_component`."""
        self._end_component(component, signal.SIGKILL, "killed")

    def stop_component(self, component: str) -> None:
        """End a component with SIGTERM (SIGKILL after 15 s). It stays down until `start_component`."""
        self._end_component(component, signal.SIGTERM, "stopped")

    def start_component(self, component: str, *, extra_flags: Sequence[str] = ()) -> None:
        """Start a component again as it was, with further flags, which it keeps; return when it serves."""
        spec = self._control.spec(component)
        spec = replace(spec, command=[*spec.command, *extra_flags])
        self._control.start(spec)
        self._wait_ready(component)

    def restart(self, component: str, *, extra_flags: Sequence[str] = ()) -> None:
        """End a component with SIGTERM where it runs, and start it again; return when it serves."""
        if any(each.name == component and each.exit_code is None for each in self.components()):
            self.stop_component(component)
        self.start_component(component, extra_flags=extra_flags)

    def pause(self, component: str) -> None:
        """Stop a component with SIGSTOP: it keeps its connections and answers nothing, until `resume`."""
        self._control.signal(component, signal.SIGSTOP)
        self._wait_for(lambda: self._state(component) == "paused", f"{component} to pause")

    def resume(self, component: str) -> None:
        """Let a paused component go on."""
        self._control.signal(component, signal.SIGCONT)
        self._wait_for(lambda: self._state(component) == "running", f"{component} to go on")

    def stop(self) -> None:
        """End all processes of the cluster, those of its pods included, and remove its state."""
        with _locked(self.name):
            self._end()

    def __enter__(self) -> Self:
        """Return the cluster."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the cluster."""
        self.stop()

    # --- starting ---

    @classmethod
    def _launch(cls, name: str, node_kind: str) -> Cluster:
        """Start the supervisor, with nothing to supervise yet."""
        layout = Layout(state_root() / name)
        layout.logs.mkdir(mode=0o700, parents=True)
        layout.folder.chmod(0o700)
        try:
            ports, listener = allocate()
        except NoFreePortsError as error:
            raise ClusterError(str(error)) from error
        description = _Description(name, node_kind, ports, secrets.token_urlsafe(32), _now_text(), None)
        write_atomically(layout.description, description.text())
        # The supervisor ends the cluster when the writing end closes: when this process ends, however it does.
        lifeline_read, lifeline_write = os.pipe()
        with listener, layout.log("supervisor").open("ab") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "devcluster.supervisor"),
                    *("--state", str(layout.folder)),
                    *("--listen-fd", str(listener.fileno()), "--lifeline-fd", str(lifeline_read)),
                ],
                env=_python_environment(),
                cwd=layout.logs,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is not for it
                pass_fds=(listener.fileno(), lifeline_read),
            )
        os.close(lifeline_read)
        description = replace(description, guardian=ProcessIdentity.of(process.pid))
        write_atomically(layout.description, description.text())
        return cls(description, process=process, lifeline=lifeline_write)

    def _write_configuration(self, image_map: Mapping[str, LocalImage]) -> None:
        """Write all files that components read."""
        layout, keys = self._layout, KeyFiles(self._layout.keys)
        authority_name = f"devcluster-{self.name}"
        addresses = components.SERVER_ADDRESSES
        write_keys(keys, authority_name=authority_name, server_addresses=addresses, now=datetime.now(UTC))
        layout.node.mkdir(mode=0o700)
        images_module.write(layout.images, image_map)
        tokens = {}
        for user, path in (
            (components.ADMIN, layout.kubeconfig),
            (components.CONTROLLER_MANAGER_USER, layout.controller_manager_kubeconfig),
            (components.node_user(self.node_name), layout.node_kubeconfig),
        ):
            tokens[user] = secrets.token_urlsafe(32)
            text = components.kubeconfig(
                context=self.context,
                port=self.ports.api_server,
                authority=keys.authority.read_bytes(),
                user=user[0],
                token=tokens[user],
            )
            write_atomically(path, text)
        write_atomically(layout.tokens, components.token_file(tokens))
        write_atomically(layout.audit_policy, components.audit_policy())

    def _start_components(
        self,
        binaries: Mapping[str, Path],
        audit: bool,
        api_server_flags: tuple[str, ...],
        controller_manager_flags: tuple[str, ...],
    ) -> None:
        layout, keys, ports = self._layout, KeyFiles(self._layout.keys), self.ports
        self._start(ETCD, components.etcd_command(binaries[ETCD], layout, keys, ports))
        command = components.api_server_command(
            binaries[API_SERVER], layout, keys, ports, audit=audit, extra_flags=api_server_flags
        )
        self._start(API_SERVER, command)
        self._wait_ready(API_SERVER)
        command = components.controller_manager_command(
            binaries[CONTROLLER_MANAGER], layout, keys, ports, extra_flags=controller_manager_flags
        )
        self._start(CONTROLLER_MANAGER, command)
        if self.node_kind != "none":
            command = components.node_command(
                sys.executable, layout, ports, node_name=self.node_name, kind=self.node_kind
            )
            self._start(NODE, command, grace_seconds=_NODE_GRACE_SECONDS)
            self._wait_ready(NODE)
        self._wait_ready(CONTROLLER_MANAGER)

    def _start(self, name: str, command: list[str], *, grace_seconds: float = 0) -> None:
        log = str(self.log_path(name))
        self._control.start(ComponentSpec(name, command, log, _python_environment(), grace_seconds))

    def _detach(self) -> None:
        self._control.detach()
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        if self._process is not None:
            self._process.returncode = 0  # it outlives this process: nobody waits for it
            self._process = None

    # --- waiting ---

    def _wait_ready(self, component: str) -> None:
        """Wait until a component serves. Raises ClusterError, with the end of its log, when it ended instead."""
        ready: dict[str, tuple[Callable[[], bool], str]] = {
            ETCD: (lambda: self._answers("/readyz/etcd"), "to be ready behind the API server"),
            API_SERVER: (lambda: self._answers("/readyz"), "to be ready"),
            # Pods are refused in a namespace without its service account, which the controller manager makes.
            CONTROLLER_MANAGER: (
                lambda: self._answers("/api/v1/namespaces/default/serviceaccounts/default")
                and self._answers("/api/v1/namespaces/default/configmaps/kube-root-ca.crt"),
                "to make the service account of the namespace default",
            ),
            NODE: (self._node_is_ready, "to say that it is ready"),
        }
        is_ready, what = ready[component]
        self._wait_for(is_ready, f"{component} {what}", of=component)

    def _wait_for(self, holds: Callable[[], bool], what: str, *, of: str | None = None) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_SECONDS
        needed = {ETCD, API_SERVER, of} if of else set()
        while not holds():
            for each in self.components():
                if each.name in needed and each.state == "died":
                    message = f"{each.name} ended with {_exit_text(each.exit_code)}{_mend(self.log_path(each.name))}"
                    raise ClusterError(message + tail(self.log_path(each.name)))
            if time.monotonic() > deadline:
                message = f"waited {_READY_TIMEOUT_SECONDS:g} s in vain for {what}"
                raise ClusterError(message + (tail(self.log_path(of)) if of else ""))
            time.sleep(_POLL_SECONDS)

    def _state(self, component: str) -> str:
        return next((each.state for each in self.components() if each.name == component), "")

    def _node_is_ready(self) -> bool:
        node = self._get(f"/api/v1/nodes/{self.node_name}")
        conditions = (node or {}).get("status", {}).get("conditions", [])
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def _answers(self, path: str) -> bool:
        return self._get(path) is not None

    def _get(self, path: str) -> dict[str, Any] | None:
        """Return what the API server answers, {} where that is no JSON; None unless it answers with 200."""
        config = json.loads(self.kubeconfig.read_text(encoding="utf-8"))
        token = config["users"][0]["user"]["token"]
        context = ssl.create_default_context(cafile=str(KeyFiles(self._layout.keys).authority))
        url = f"https://{ADDRESS}:{self.ports.api_server}{path}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(request, timeout=5) as response:
                body = response.read()
        except (OSError, http.client.HTTPException):
            return None
        return json.loads(body) if body.startswith(b"{") else {}

    # --- ending ---

    def _end_component(self, component: str, number: signal.Signals, asked: str) -> None:
        self._control.signal(component, number, asked=asked)
        self._control.signal(component, signal.SIGCONT)
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
        while (now := self._state(component)) in ("running", "paused"):
            if time.monotonic() > deadline:
                with contextlib.suppress(ControlError):
                    self._control.signal(component, signal.SIGKILL)
                deadline += _STOP_TIMEOUT_SECONDS
            time.sleep(_POLL_SECONDS)
        del now

    def _end(self) -> None:
        _remove(self.name, self._description)
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        if self._process is not None:
            self._process.wait(timeout=_STOP_TIMEOUT_SECONDS)
            self._process = None


def names() -> list[str]:
    """Return the names of the clusters that have a state directory: those that are up, and what crashed."""
    return sorted(path.parent.name for path in state_root().glob("*/cluster.json"))


def remove(name: str) -> bool:
    """End a cluster, whatever state it is in, and remove all of it; return whether there was one."""
    _check_name(name)
    with _locked(name):
        folder = state_root() / name
        existed = folder.exists()
        _remove(name, _Description.read(Layout(folder).description))
    return existed


def tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """Return the end of a log, to be appended to a message; empty when there is no log."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - 64 * 1024))
            last = stream.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return ""
    return f"\nThe end of {log}:\n" + "\n".join(f"  {line[:400]}" for line in last)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        message = f"{name!r} can't be a cluster's name: up to 40 of a-z, 0-9 and '-', which is not at its ends"
        raise ClusterError(message)


def _image_map(images: Mapping[str, LocalImage | str | Path]) -> dict[str, LocalImage]:
    return {
        name: given if isinstance(given, LocalImage) else LocalImage.of(given) for name, given in images.items()
    }


def _is_up(description: _Description) -> bool:
    try:
        Control(description.ports.control, description.secret).components()
    except ControlError:
        # One that is too busy to answer is up all the same.
        return description.guardian is not None and description.guardian.is_alive()
    return True


def _remove(name: str, description: _Description | None) -> None:
    """End what runs of a cluster and remove its folder. Raises ClusterError when something would not end."""
    if description is not None:
        with contextlib.suppress(ControlError):
            Control(description.ports.control, description.secret).end()
        _end_processes(name, description)
    folder = state_root() / name
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _end_processes(name: str, description: _Description) -> None:
    guardian = description.guardian
    if guardian is None:  # it crashed before its supervisor was written down, which then ended by its lifeline
        return
    deadline = time.monotonic() + _NODE_GRACE_SECONDS + _STOP_TIMEOUT_SECONDS
    while guardian.is_alive() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)

    def rest() -> list[psutil.Process]:
        mine = [psutil.Process(guardian.pid), *descendants(guardian.pid)] if guardian.is_alive() else []
        return [*mine, *of_session(guardian)]

    left = kill_all(rest)
    if left:
        shown = ", ".join(f"{process.pid}" for process in left)
        message = f"processes of the cluster {name!r} would not end: {shown}"
        raise ClusterError(message)


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    """Let one process at a time start or end the cluster of this name."""
    root = state_root()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (root / f"{name}.lock").open("a", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except PermissionError as error:
        message = f"cannot write to {root}: {error.strerror}; set XDG_STATE_HOME to a folder of your own"
        raise ClusterError(message) from error


def _python_environment() -> dict[str, str]:
    """Return the environment of components: that of this process, able to import devcluster from anywhere."""
    paths = [str(IMPORT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def _command(verb: str, name: str) -> str:
    return f"`python -m devcluster {verb}{'' if name == 'dev' else f' --name {name}'}`"


def _now_text() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _exit_text(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


#: What components say when they can't run, and what to do about it.
_MENDS = (
    ("address already in use", "another program took one of its ports in this moment: try again"),
    ("no space left on device", "the disk is full: free some space, or set XDG_STATE_HOME to a folder elsewhere"),
    ("too many open files", "raise the limit of open files: `ulimit -n 65536`"),
    ("cannot allocate memory", "the machine is out of memory: a cluster needs about 1 GB"),
    ("No module named", "a Python package is missing: `pip install -r requirements-dev.lock`"),
    ("unknown flag", "one of the further flags given to it does not exist"),
    ("Error: ", "see its own words below"),
)


def _mend(log: Path) -> str:
    text = tail(log)
    return next((f": {mend}" for said, mend in _MENDS if said in text), "")
