"""Whether this machine can run a node of real containers, and what it lacks: said in a sentence, or installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLUGIN_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
_APT_TIMEOUT_SECONDS = 600.0

#: The programs that are needed, and the Debian and Ubuntu packages that have them.
_PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "catatonit": "catatonit",
    "nft": "nftables",
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
}
_PLUGINS_PACKAGE = "containernetworking-plugins"

#: All that the kernel must allow, tried in namespaces that are gone a moment later.
_TRIAL = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/lower" "$1/upper" "$1/work" "$1/all"
mount -t overlay overlay -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" "$1/all"
ip link add name pods type bridge
ip link add name a type veth peer name b
nft add table ip trial
nft 'add chain ip trial out { type nat hook postrouting priority srcnat; }'
nft 'add rule ip trial out ip saddr 10.244.0.0/16 masquerade'
nft 'add rule ip trial out numgen random mod 2 vmap { 0: accept, 1: accept }'
echo 1 > /proc/sys/net/ipv4/ip_forward
"""


class MissingError(Exception):
    """There can be no node of real containers here; the message says what is missing."""


def ensure() -> None:
    """Install what is missing; return when a node of real containers can run here. Raises MissingError."""
    if sys.platform != "linux":
        raise MissingError("real containers need Linux")
    if os.geteuid() != 0:
        raise MissingError("real containers need root")
    install_programs(_PACKAGES)
    if _find_plugins() is None:
        _install({_PLUGINS_PACKAGE})
    _try_namespaces()


def install_programs(packages: Mapping[str, str]) -> None:
    """Install those of these programs (with the packages that have them) that are missing. Raises MissingError."""
    missing = {package for program, package in packages.items() if shutil.which(program) is None}
    if missing:
        _install(missing)


def _install(packages: set[str]) -> None:
    """Install packages with apt-get, and say so."""
    names = " ".join(sorted(packages))
    if shutil.which("apt-get") is None:
        raise MissingError(f"these are missing, and there is no apt-get to install them with: {names}")
    print(f"devcluster: installing with apt-get: {names}", file=sys.stderr, flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *sorted(packages)]
    # First without asking for news: the lists are often there, and new enough.
    result = _run(command, environment)
    if result.returncode != 0:
        _run(["apt-get", "update", "--quiet"], environment)
        result = _run(command, environment)
    if result.returncode != 0:
        said = (result.stderr.strip() or result.stdout.strip()).splitlines()[-1:] or ["it said nothing"]
        raise MissingError(f"apt-get can't install {names}: {said[0]}")


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_APT_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise MissingError(f"`{' '.join(command)}` did not end") from error


def plugins_folder() -> Path:
    """Return where the network plugins are. Raises MissingError."""
    found = _find_plugins()
    if found is None:
        raise MissingError(f"the network plugins are missing: install {_PLUGINS_PACKAGE}")
    return found


def pause_program() -> Path:
    """Return the program that holds a pod's network. Raises MissingError."""
    found = shutil.which("catatonit")
    if found is None:
        raise MissingError("catatonit is missing: install it")
    return Path(found)


def _find_plugins() -> Path | None:
    return next((folder for folder in _PLUGIN_FOLDERS if (folder / "bridge").exists()), None)


def _try_namespaces() -> None:
    """Raise MissingError unless the kernel lets us have all that a node is made of."""
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [
                *("unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"),
                *("sh", "-c", _TRIAL, "sh", folder),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    if result.returncode != 0:
        said = result.stderr.strip().splitlines()[-1:] or [f"exit code {result.returncode}"]
        raise MissingError(f"the kernel does not let us have a node of its own here: {said[0]}")
    if not os.access("/sys/fs/cgroup", os.W_OK):
        raise MissingError("/sys/fs/cgroup can't be written to, so there can be no containers")
