"""The command line: `python -m devcluster …`. Reads arguments and prints; `Cluster` does the work."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import build, images
from devcluster.cluster import AlreadyUpError, Cluster, ClusterError, NoClusterError
from devcluster.complaints import explain_end
from devcluster.control import ControlError
from devcluster.imagebuild.buildah import ImageBuildError, build_image
from devcluster.nodes import NODE_KINDS
from devcluster.registry import check_name, command, layout_of, names, remove

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devcluster.protocol import ComponentStatus

_POLL_SECONDS = 0.3
_DEFAULT_NODE = next(iter(NODE_KINDS))

#: Exit codes of `status`.
_SOMETHING_DIED = 1
_NOT_UP = 3

_EPILOG = """\
examples:
  python -m devcluster up --image webapp=webapp/
  export KUBECONFIG="$(python -m devcluster kubeconfig)"
  python -m devcluster kubectl get pods --all-namespaces
  python -m devcluster logs node -f
  python -m devcluster down

Clusters of different --name live side by side. Binaries are built once, from pinned Go modules, into
$CRONTABBER_CACHE, else $XDG_CACHE_HOME, else ~/.cache; a cluster's files are in $XDG_STATE_HOME, else
~/.local/state, until it is taken down. See docs/devcluster.md.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    own, of_kubectl = _split(list(sys.argv[1:] if arguments is None else arguments))
    options = _parser().parse_args(own)
    options.arguments = of_kubectl
    # So that `finally` runs when a terminal is closed or a service manager says stop.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit_on_signal)
    try:
        code: int = options.run(options)
    except NoClusterError as error:
        print(f"devcluster: {error}", file=sys.stderr)
        return _NOT_UP
    except (ClusterError, ControlError, build.BuildError, images.ImageError, ImageBuildError) as error:
        print(f"devcluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("devcluster: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as in `logs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return our arguments and kubectl's: all that follows `kubectl`, less a `--name` that comes first."""
    if arguments[:1] != ["kubectl"]:
        return arguments, []
    own = 1
    if arguments[1:2] == ["--name"]:
        own = 3
    elif arguments[1:] and arguments[1].startswith("--name="):
        own = 2
    return arguments[:own], arguments[own:]


def _exit_on_signal(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m devcluster",
        description="A real Kubernetes without containers, started in seconds: etcd, the API server and the "
        "controller manager, and a node that runs pods as local processes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default="dev", help="the cluster's name (default: %(default)s)")

    up = commands.add_parser(
        "up", parents=[named], help="start a cluster, or change the images of one that is up"
    )
    up.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="NAME=DIR[,python=FILE][,workingDir=PATH]",
        help="containers of this image run in this directory, with this Python (default: the directory's "
        ".venv/bin/python, else the one devcluster runs on), which they find at this path; repeatable",
    )
    up.add_argument(
        "--node",
        choices=NODE_KINDS,
        help="; ".join(f"{kind}: {what}" for kind, what in NODE_KINDS.items())
        + f" (default: {_DEFAULT_NODE})",
    )
    up.add_argument(
        "--controller-manager-flag",
        action="append",
        default=[],
        metavar="FLAG",
        help="a further flag, such as --controller-manager-flag=--concurrent-job-syncs=20; repeatable",
    )
    up.add_argument(
        "--api-server-flag", action="append", default=[], metavar="FLAG", help="a further flag; repeatable"
    )
    up.add_argument("--audit", action="store_true", help="log each request to the API server")
    up.add_argument(
        "--foreground",
        action="store_true",
        help="stay, and take the cluster down at Ctrl-C or when this ends",
    )
    up.set_defaults(run=_up)

    load = commands.add_parser(
        "load",
        parents=[named],
        help="give a node of real containers the images of archives (`docker save`, `buildah push`)",
    )
    load.add_argument("archives", nargs="+", metavar="ARCHIVE")
    load.set_defaults(run=_load)

    image = commands.add_parser(
        "image", help="build an image without Docker (Linux, root), and print where its archive is"
    )
    image.add_argument("image", metavar="NAME=DIR", help="its name, and the folder of its Dockerfile")
    image.add_argument("--file", type=Path, help="another Dockerfile than the folder's own")
    image.add_argument(
        "--build-arg",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="repeatable; BASE is a base image made here unless it is given",
    )
    image.set_defaults(run=_image)

    down = commands.add_parser("down", parents=[named], help="end a cluster with all its processes and data")
    down.add_argument("--all", action="store_true", help="all clusters, whatever their names")
    down.set_defaults(run=_down)

    status = commands.add_parser(
        "status",
        parents=[named],
        help="tell what runs and what died",
        description=f"Exit code 0: all runs; {_SOMETHING_DIED}: something died; {_NOT_UP}: it is not up.",
    )
    status.set_defaults(run=_status)

    logs = commands.add_parser("logs", parents=[named], help="print what components logged")
    logs.add_argument(
        "component",
        nargs="?",
        help="etcd, kube-apiserver, kube-controller-manager, node, supervisor or audit; all",
    )
    logs.add_argument("-f", "--follow", action="store_true", help="go on printing, until Ctrl-C")
    logs.add_argument("-n", "--lines", type=int, help="only the last lines (default: all of one, 20 of each)")
    logs.set_defaults(run=_logs)

    kubectl = commands.add_parser(
        "kubectl",
        parents=[named],
        help="run kubectl in the cluster; --name comes before kubectl's own arguments",
    )
    kubectl.set_defaults(run=_kubectl)

    kubeconfig = commands.add_parser("kubeconfig", parents=[named], help="print the kubeconfig's path")
    kubeconfig.set_defaults(run=_kubeconfig)

    list_ = commands.add_parser("list", help="list the clusters")
    list_.set_defaults(run=_list)

    build_ = commands.add_parser("build", help="build the binaries, and print where they are")
    build_.add_argument("--helm", action="store_true", help="helm too")
    build_.set_defaults(run=_build)
    return parser


def _up(options: argparse.Namespace) -> int:
    given = dict(images.parse(text) for text in options.image)
    try:
        cluster = Cluster.start(
            options.name,
            node=options.node or _DEFAULT_NODE,
            images=given,
            controller_manager_flags=options.controller_manager_flag,
            api_server_flags=options.api_server_flag,
            audit=options.audit,
            keep=not options.foreground,
        )
    except AlreadyUpError:
        return _already_up(options, given)
    if not options.foreground:
        print(f"The cluster {cluster.name!r} is up.")
        _print_hints(cluster)
        return 0
    with cluster:
        print(f"The cluster {cluster.name!r} is up until Ctrl-C.")
        _print_hints(cluster)
        return _watch(cluster)


def _load(options: argparse.Namespace) -> int:
    cluster = Cluster.attach(options.name)
    for name in options.archives:
        cluster.load(Path(name))
        print(f"The node has the images of {name}.")
    return 0


def _image(options: argparse.Namespace) -> int:
    name, _, folder = options.image.partition("=")
    arguments = dict(text.partition("=")[::2] for text in options.build_arg)
    if not folder or not all(arguments):
        message = "write `image NAME=DIR`, and `--build-arg KEY=VALUE`"
        raise ImageBuildError(message)
    print(build_image(name, Path(folder), dockerfile=options.file, arguments=arguments))
    return 0


def _already_up(options: argparse.Namespace, given: dict[str, images.LocalImage]) -> int:
    """Say so, and take what can be changed."""
    cluster = Cluster.attach(options.name)
    asked = options.controller_manager_flag or options.api_server_flag or options.audit or options.foreground
    if asked or (options.node and options.node != cluster.node_kind):
        message = (
            f"the cluster {cluster.name!r} is up already (node: {cluster.node_kind}), and of what was asked "
            f"only --image can be changed: {command('down', cluster.name)} first"
        )
        raise ClusterError(message)
    print(f"The cluster {cluster.name!r} is up already.")
    if given:
        cluster.set_images({**cluster.images, **given})
        print(
            f"New containers take: {', '.join(f'{name}={image.directory}' for name, image in given.items())}"
        )
    _print_hints(cluster)
    return 0


def _print_hints(cluster: Cluster) -> None:
    name = "" if cluster.name == "dev" else f" --name {cluster.name}"
    print(
        f"\n  export KUBECONFIG={cluster.kubeconfig}\n\n"
        f"  python -m devcluster kubectl{name} get pods --all-namespaces\n"
        f"  python -m devcluster status{name}\n"
        f"  python -m devcluster logs{name} -f\n"
        f"  python -m devcluster down{name}",
        flush=True,
    )


def _watch(cluster: Cluster) -> int:
    """Tell of components that die, until Ctrl-C or until the cluster is taken down from elsewhere."""
    told: set[int] = set()
    try:
        while True:
            for each in cluster.components():
                if each.state == "died" and each.pid not in told:
                    told.add(each.pid)
                    told_now = explain_end(each.name, each.exit_code, cluster.log_path(each.name))
                    print(f"devcluster: {told_now}", file=sys.stderr)
            time.sleep(_POLL_SECONDS)
    except ControlError:
        print("devcluster: the cluster was taken down", file=sys.stderr)
        return 0
    except KeyboardInterrupt:
        print("\ndevcluster: taking the cluster down", file=sys.stderr)
        return 0


def _down(options: argparse.Namespace) -> int:
    for name in names() if options.all else [options.name]:
        print(f"The cluster {name!r} is down." if remove(name) else f"There is no cluster {name!r}.")
    return 0


def _status(options: argparse.Namespace) -> int:
    cluster = Cluster.attach(options.name)
    components = cluster.components()
    print(f"cluster     {cluster.name} (node: {cluster.node_kind})")
    print(f"API server  https://127.0.0.1:{cluster.ports.api_server}")
    print(f"kubeconfig  {cluster.kubeconfig}")
    print(f"state       {cluster.state_dir}\n")
    for each in components:
        print(_line(each))
    died = [each for each in components if each.state == "died"]
    for each in died:
        print(f"\n{explain_end(each.name, each.exit_code, cluster.log_path(each.name))}")
    return _SOMETHING_DIED if died else 0


def _line(component: ComponentStatus) -> str:
    since = datetime.fromisoformat(component.since)
    seconds = int((datetime.now(UTC) - since).total_seconds())
    ended = "" if component.exit_code is None else f", {_exit_text(component.exit_code)}"
    return f"{component.name:<24} {component.state:<8} pid {component.pid}{ended}, {seconds} s ago"


def _exit_text(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _logs(options: argparse.Namespace) -> int:
    check_name(options.name)
    # Without asking whether the cluster is up: it is when it crashed that its logs are wanted.
    known = {path.stem: path for path in sorted(layout_of(options.name).logs.glob("*.log"))}
    if not known:
        message = f"there is no cluster {options.name!r}: {command('up', options.name)} starts it"
        raise NoClusterError(message)
    if options.component is not None and options.component not in known:
        message = f"there is no log of {options.component!r}: {', '.join(known)}"
        raise ClusterError(message)
    chosen: list[Path] = [known[options.component]] if options.component else list(known.values())
    lines = options.lines if options.lines is not None else (None if options.component else 20)
    last = ["-n", "+1" if lines is None else str(lines)]
    follow = ["-F"] if options.follow else []
    return subprocess.run(["tail", *last, *follow, *map(str, chosen)], check=False).returncode


def _kubectl(options: argparse.Namespace) -> int:
    cluster = Cluster.attach(options.name)
    binary = str(build.binaries(["kubectl"])["kubectl"])
    sys.stdout.flush()
    environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}
    os.execve(binary, ["kubectl", *options.arguments], environment)  # noqa: S606 - there is to be no shell


def _kubeconfig(options: argparse.Namespace) -> int:
    print(Cluster.attach(options.name).kubeconfig)
    return 0


def _list(_options: argparse.Namespace) -> int:
    for name in names():
        try:
            cluster = Cluster.attach(name)
            states = {each.state for each in cluster.components()}
            state = (
                "up"
                if states <= {"running"}
                else f"up, with components {', '.join(sorted(states - {'running'}))}"
            )
            print(
                f"{name:<20} {state:<10} node: {cluster.node_kind:<8} https://127.0.0.1:{cluster.ports.api_server}"
            )
        except (NoClusterError, ControlError):
            print(f"{name:<20} crashed    ({command('down', name)} removes it)")
    return 0


def _build(options: argparse.Namespace) -> int:
    names_ = [*build.CONTROL_PLANE, *(["helm"] if options.helm else [])]
    for path in build.binaries(names_).values():
        print(path)
    return 0
