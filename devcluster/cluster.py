"""A cluster, as the command line, the tests and the benchmarks see it: started, disturbed, mended, ended.

Says what is to run and waits until it serves. The processes themselves belong to the supervisor.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from devcluster import build, components, nodes
from devcluster import images as image_map
from devcluster.certificates import write_keys
from devcluster.complaints import explain_end, tail
from devcluster.components import API_SERVER, CONTROLLER_MANAGER, ETCD, SCHEDULER
from devcluster.control import Control, ControlError
from devcluster.images import LocalImage
from devcluster.paths import IMPORT_ROOT, write_atomically
from devcluster.ports import ADDRESS, NoFreePortsError, Ports, allocate
from devcluster.probes import Probes
from devcluster.processes import ProcessIdentity
from devcluster.protocol import ComponentSpec, ComponentStatus
from devcluster.realnode import prerequisites, store
from devcluster.registry import (
    ClusterError,
    Description,
    NoClusterError,
    check_name,
    command,
    is_up,
    layout_of,
    locked,
    remove_locked,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

__all__ = ["AlreadyUpError", "Cluster", "ClusterError", "NoClusterError"]

_READY_TIMEOUT_SECONDS = 120.0
_STOP_TIMEOUT_SECONDS = 15.0
_POLL_SECONDS = 0.05


class AlreadyUpError(ClusterError):
    """A cluster of this name is up already."""


class Cluster:
    """One running cluster: made by `start` or `attach`; as a context manager it is stopped at the end.

    Its components are called `etcd`, `kube-apiserver`, `kube-controller-manager` and `node`, with a node of
    real containers also `kube-scheduler`. Methods that
    speak with its supervisor raise `control.ControlError` when the cluster is not up any more.
    """

    def __init__(
        self,
        description: Description,
        *,
        process: subprocess.Popen[bytes] | None = None,
        lifeline: int | None = None,
    ) -> None:
        """Use `start` or `attach`."""
        self._description = description
        self._control = Control(description.ports.control, description.secret)
        self._layout = layout_of(description.name)
        self._process = process
        self._lifeline = lifeline

    @classmethod
    def start(  # noqa: PLR0913 - each an option of its own, all but the name by keyword
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

        `node`: a key of `nodes.NODE_KINDS`. `images`: image name to directory, or `LocalImage`. Flags are
        added to the component's own; of two the last counts. `audit`: each request is logged to `audit_log`.
        Without `keep` the cluster ends with this process, even if that is killed; with it, by `stop` only.

        Raises AlreadyUpError, ClusterError, build.BuildError and images.ImageError.
        """
        check_name(name)
        if node not in nodes.NODE_KINDS:
            message = f"{node!r} is no kind of node: {', '.join(nodes.NODE_KINDS)}"
            raise ClusterError(message)
        mapped = _local_images(images or {})
        binaries = _programs(node, mapped)
        with locked(name):
            existing = Description.read(name)
            if existing is not None and is_up(existing):
                message = f"the cluster {name!r} is up: {command('down', name)} takes it down"
                raise AlreadyUpError(message)
            remove_locked(name, existing)
            cluster = cls._launch(name, node)
            control_plane = cluster._control_plane(  # noqa: SLF001 - of this class
                binaries, api_server_flags, controller_manager_flags, audit=audit
            )
            cluster._bring_up(mapped, control_plane, binaries, keep=keep)  # noqa: SLF001 - of this class
        return cluster

    @classmethod
    def attach(cls, name: str = "dev") -> Cluster:
        """Return a cluster that is up. Raises NoClusterError, and ClusterError when it hangs."""
        check_name(name)
        description = Description.read(name)
        if description is None:
            message = f"there is no cluster {name!r}: {command('up', name)} starts it"
            raise NoClusterError(message)
        if not is_up(description):
            message = (
                f"the cluster {name!r} ended without being taken down (a crash, a reboot): "
                f"{command('up', name)} starts it anew, {command('down', name)} removes what is left"
            )
            raise NoClusterError(message)
        return cls(description)

    # What it is

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self._description.name

    @property
    def context(self) -> str:
        """The context's name in the kubeconfig; tests refuse contexts that are not called `devcluster-…`."""
        return f"devcluster-{self.name}"

    @property
    def node_kind(self) -> str:
        """How pods are run: a key of `nodes.NODE_KINDS`."""
        return self._description.node_kind

    @property
    def node_name(self) -> str:
        """What the node is called in Kubernetes."""
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
        """The file that a component's output goes to; `supervisor` has one too."""
        return self._layout.log(component)

    @property
    def images(self) -> dict[str, LocalImage]:
        """The image map."""
        return image_map.read(self._layout.images)

    def set_images(self, images: Mapping[str, LocalImage | str | Path]) -> None:
        """Replace the image map, for the containers that start from now on. Raises images.ImageError."""
        if images:
            _check_mapped(self.node_kind)
        image_map.write(self._layout.images, _local_images(images))

    def load(self, archive: Path) -> None:
        """Give the node of real containers the images of an archive (`docker save`). Raises ClusterError."""
        if self.node_kind != nodes.REAL:
            message = f"the node of {self.name!r} runs no real containers: map its images with --image"
            raise ClusterError(message)
        try:
            store.load(self._layout, archive)
        except store.StoreError as error:
            raise ClusterError(str(error)) from error

    def components(self) -> list[ComponentStatus]:
        """Return what became of each component."""
        return self._control.components()

    # What is done with it

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_seconds: float = 60) -> str:
        """Run kubectl as the administrator and return its standard output. Raises ClusterError."""
        shown = f"`kubectl {' '.join(arguments)}`"
        try:
            result = subprocess.run(
                [str(build.path_of("kubectl")), *arguments],
                env=os.environ | {"KUBECONFIG": str(self.kubeconfig)},
                input=stdin or "",
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout_seconds,
            )
        except subprocess.TimeoutExpired as error:
            message = f"{shown} did not end within {timeout_seconds:g} s"
            raise ClusterError(message) from error
        if result.returncode != 0:
            message = f"{shown} failed: {result.stderr.strip() or result.stdout.strip()}"
            raise ClusterError(message)
        return result.stdout

    def kill(self, component: str) -> None:
        """End a component with SIGKILL, as a crash does; it stays down until `start_component`.

        With the node, the processes of its pods end too, as with a machine that lost its power.
        """
        self._end_component(component, signal.SIGKILL, "killed")

    def stop_component(self, component: str) -> None:
        """End a component with SIGTERM (after 15 s with SIGKILL); it stays down until `start_component`."""
        self._end_component(component, signal.SIGTERM, "stopped")

    def start_component(self, component: str, *, extra_flags: Sequence[str] = ()) -> None:
        """Start a component again as it was, with further flags that it keeps; return when it serves."""
        spec = self._control.spec(component)
        self._control.start(replace(spec, command=[*spec.command, *extra_flags]))
        self._wait_ready(component)

    def restart(self, component: str, *, extra_flags: Sequence[str] = ()) -> None:
        """End a component with SIGTERM, if it runs, and start it again; return when it serves."""
        if any(each.name == component and each.runs for each in self.components()):
            self.stop_component(component)
        self.start_component(component, extra_flags=extra_flags)

    def pause(self, component: str) -> None:
        """Stop a component with SIGSTOP: it keeps its connections and answers nothing, until `resume`."""
        self._control.signal(component, signal.SIGSTOP)
        self._wait_for(lambda: self._state(component) == "paused", component, "to pause")

    def resume(self, component: str) -> None:
        """Let a paused component go on."""
        self._control.signal(component, signal.SIGCONT)
        self._wait_for(lambda: self._state(component) == "running", component, "to go on")

    def stop(self) -> None:
        """End all processes of the cluster, those of its pods included, and remove its state."""
        with locked(self.name):
            self._end()

    def __enter__(self) -> Self:
        """Return the cluster."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the cluster."""
        self.stop()

    # Starting

    @classmethod
    def _launch(cls, name: str, node_kind: str) -> Cluster:
        """Start the supervisor, with nothing to supervise yet."""
        layout = layout_of(name)
        layout.folder.mkdir(mode=0o700)
        layout.logs.mkdir(mode=0o700)
        try:
            ports, listener = allocate()
        except NoFreePortsError as error:
            raise ClusterError(str(error)) from error
        description = Description(name, node_kind, ports, secrets.token_urlsafe(32), guardian=None)
        write_atomically(layout.description, description.text())
        # The supervisor ends the cluster when the writing end closes: when this process ends, in any way.
        lifeline_read, lifeline_write = os.pipe()
        try:
            with listener, layout.log("supervisor").open("ab") as log:
                process = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "devcluster.supervisor"),
                        *("--state", str(layout.folder)),
                        *("--listen-fd", str(listener.fileno())),
                        *("--lifeline-fd", str(lifeline_read)),
                    ],
                    env=_python_environment(),
                    cwd=layout.logs,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C in the terminal is not for it
                    pass_fds=(listener.fileno(), lifeline_read),
                )
        except BaseException:
            os.close(lifeline_write)
            raise
        finally:
            os.close(lifeline_read)
        description = replace(description, guardian=ProcessIdentity.of(process.pid))
        write_atomically(layout.description, description.text())
        return cls(description, process=process, lifeline=lifeline_write)

    def _control_plane(
        self,
        binaries: Mapping[str, Path],
        api_server_flags: Sequence[str],
        controller_manager_flags: Sequence[str],
        *,
        audit: bool,
    ) -> dict[str, list[str]]:
        """Return each component's command, in the order that they are started in."""
        of_cluster = (self._layout, self.ports)
        return {
            ETCD: components.etcd_command(binaries[ETCD], *of_cluster),
            API_SERVER: components.api_server_command(
                binaries[API_SERVER],
                *of_cluster,
                audit=audit,
                extra_flags=[*nodes.api_server_flags(self.node_kind, self.ports), *api_server_flags],
            ),
            CONTROLLER_MANAGER: components.controller_manager_command(
                binaries[CONTROLLER_MANAGER], *of_cluster, extra_flags=controller_manager_flags
            ),
        }

    def _bring_up(
        self,
        images: Mapping[str, LocalImage],
        control_plane: Mapping[str, list[str]],
        binaries: Mapping[str, Path],
        *,
        keep: bool,
    ) -> None:
        """Start all components below the supervisor; end and remove everything if one does not come up."""
        with contextlib.ExitStack() as undo:
            undo.callback(self._end)
            try:
                self._write_files(images)
                self._start_components(control_plane, binaries)
                if keep:
                    self._detach()
            except ControlError as error:
                message = f"the supervisor of {self.name!r} ended while the cluster was started: {error}"
                raise ClusterError(message + tail(self.log_path("supervisor"))) from error
            undo.pop_all()

    def _write_files(self, images: Mapping[str, LocalImage]) -> None:
        """Write all files that components read."""
        layout, keys = self._layout, self._layout.keys
        address_of_node = nodes.api_server_address(self.node_kind, self.ports)
        addresses = [*dict.fromkeys([*components.SERVER_ADDRESSES, address_of_node])]
        write_keys(keys, authority_name=self.context, server_addresses=addresses, now=datetime.now(UTC))
        layout.node.mkdir(mode=0o700)
        image_map.write(layout.images, images)
        tokens = {}
        for user, path in (
            (components.ADMIN, layout.kubeconfig),
            (components.CONTROLLER_MANAGER_USER, layout.controller_manager_kubeconfig),
            (components.SCHEDULER_USER, layout.scheduler_kubeconfig),
            (components.node_user(self.node_name), layout.node_kubeconfig),
        ):
            tokens[user] = secrets.token_urlsafe(32)
            text = components.kubeconfig(
                context=self.context,
                port=self.ports.api_server,
                authority=keys.authority.read_bytes(),
                user=user[0],
                token=tokens[user],
                address=address_of_node if path == layout.node_kubeconfig else ADDRESS,
            )
            write_atomically(path, text)
        write_atomically(layout.tokens, components.token_file(tokens))
        write_atomically(layout.audit_policy, components.audit_policy())

    def _start_components(self, control_plane: Mapping[str, list[str]], binaries: Mapping[str, Path]) -> None:
        """Start all in order; the controller manager and the node get ready side by side."""
        for name, component_command in control_plane.items():
            if name == CONTROLLER_MANAGER:  # it would give up on an API server that isn't ready
                self._wait_ready(API_SERVER)
            self._start(name, component_command)
        of_node = nodes.node_components(
            self.node_kind,
            python=sys.executable,
            layout=self._layout,
            ports=self.ports,
            node_name=self.node_name,
            binaries=binaries,
        )
        for each in of_node:
            self._start(each.name, each.command, grace_seconds=each.grace_seconds)
        self._wait_ready(CONTROLLER_MANAGER)
        for each in of_node:
            self._wait_ready(each.name)

    def _start(self, name: str, component_command: list[str], *, grace_seconds: float = 0) -> None:
        log = str(self.log_path(name))
        self._control.start(ComponentSpec(name, component_command, log, _python_environment(), grace_seconds))

    def _detach(self) -> None:
        """Let the cluster outlive this process."""
        self._control.detach()
        self._close_lifeline()
        if self._process is not None:
            self._process.returncode = 0  # nobody will wait for it
            self._process = None

    # Waiting

    def _wait_ready(self, component: str) -> None:
        """Wait until a component serves. Raises ClusterError, with the end of its log, when it ended."""
        probes = Probes(self._layout, self.ports)
        ready = {
            ETCD: probes.etcd,
            API_SERVER: probes.api_server,
            CONTROLLER_MANAGER: probes.controller_manager,
            SCHEDULER: probes.scheduler,
        }.get(component, lambda: probes.node(self.node_name))
        self._wait_for(ready, component, "to be ready")

    def _wait_for(self, holds: Callable[[], bool], component: str, what: str) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_SECONDS
        needed = {ETCD: {ETCD}}.get(component, {ETCD, API_SERVER, component})
        while not holds():
            for each in self.components():
                if each.name in needed and not each.runs:
                    raise ClusterError(explain_end(each.name, each.exit_code, self.log_path(each.name)))
            if time.monotonic() > deadline:
                message = f"waited {_READY_TIMEOUT_SECONDS:g} s in vain for {component} {what}"
                raise ClusterError(message + tail(self.log_path(component)))
            time.sleep(_POLL_SECONDS)

    def _state(self, component: str) -> str:
        return next((each.state for each in self.components() if each.name == component), "unknown")

    # Ending

    def _end_component(self, component: str, number: signal.Signals, asked: str) -> None:
        self._control.signal(component, number, asked=asked)
        with contextlib.suppress(ControlError):  # it ended already; a paused one could not
            self._control.signal(component, signal.SIGCONT)
        deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
        while self._state(component) in ("running", "paused"):
            if time.monotonic() > deadline:
                with contextlib.suppress(ControlError):
                    self._control.signal(component, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)

    def _end(self) -> None:
        remove_locked(self.name, self._description)
        self._close_lifeline()
        if self._process is not None:
            self._process.wait(timeout=_STOP_TIMEOUT_SECONDS)
            self._process = None

    def _close_lifeline(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None


def _programs(node_kind: str, images: Mapping[str, LocalImage]) -> dict[str, Path]:
    """Return the programs of a cluster with this kind of node; build or install what is missing."""
    if images:
        _check_mapped(node_kind)
    names: tuple[str, ...] = build.CONTROL_PLANE
    if node_kind == nodes.REAL:
        try:
            prerequisites.ensure()
        except prerequisites.MissingError as error:
            message = f"there can be no node of real containers: {error}"
            raise ClusterError(message) from error
        names += build.REAL_NODE
    return build.binaries(names)


def _check_mapped(node_kind: str) -> None:
    if node_kind == nodes.REAL:
        message = "real containers need real images: leave out --image, and give it archives with `load`"
        raise ClusterError(message)


def _local_images(images: Mapping[str, LocalImage | str | Path]) -> dict[str, LocalImage]:
    return {
        name: given if isinstance(given, LocalImage) else LocalImage.of(given)
        for name, given in images.items()
    }


def _python_environment() -> dict[str, str]:
    """Return the environment of components: that of this process, able to import devcluster from anywhere."""
    paths = [str(IMPORT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
