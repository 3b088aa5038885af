"""Process 1 of a node of real containers: mounts, network, then containerd, kubelet and kube-proxy.

It ends when one of them does, and the kernel ends all other processes of the node with it. Run by `__main__`, in
new mount, process and network namespaces; it goes on when a line comes in, when the cable is there.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import sys
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster.complaints import explain_end
from devcluster.realnode import configuration
from devcluster.realnode.configuration import INSIDE, KERNEL_SETTINGS, OWN_FOLDERS
from devcluster.realnode.pause import pause_image

if TYPE_CHECKING:
    from collections.abc import Sequence

_MS_BIND = 4096
_CONTAINERD_TIMEOUT_SECONDS = 60.0
_LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Be the node until one of its programs ends."""
    parser = argparse.ArgumentParser(prog="devcluster.realnode.inside")
    parser.add_argument("--name", required=True)
    parser.add_argument("--node-name", required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--machine", type=IPv4Address, required=True)
    parser.add_argument("--address", type=IPv4Address, required=True)
    parser.add_argument("--prefix-length", type=int, required=True)
    parser.add_argument("--binaries", type=Path, required=True)
    parser.add_argument("--pause", type=Path, required=True)
    parser.add_argument("--plugins", type=Path, required=True)
    given = parser.parse_args()
    if not sys.stdin.readline():  # whoever started this is gone
        sys.exit(1)
    pause = given.pause.read_bytes()
    snapshotter = "native" if _is_overlay(given.state) else "overlayfs"
    _mount(given.state)
    written = configuration.files(
        cluster=given.name, node_name=given.node_name, snapshotter=snapshotter, plugins=given.plugins
    )
    for name, text in written.items():
        path = INSIDE.node / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    _connect(given.machine, given.address, given.prefix_length)
    programs = {"containerd": _start("containerd", configuration.containerd_command())}
    _wait_for_containerd(programs["containerd"])
    _run(configuration.ctr_command("images", "import", "-"), pause_image(pause, configuration.PAUSE_IMAGE))
    kubelet = configuration.kubelet_command(given.binaries / "kubelet", given.node_name, given.address)
    programs["kubelet"] = _start("kubelet", kubelet)
    proxy = configuration.kube_proxy_command(given.binaries / "kube-proxy")
    programs["kube-proxy"] = _start("kube-proxy", proxy)
    sys.exit(_wait(programs))


def _mount(state: Path) -> None:
    """Give the node folders of its own where its programs want theirs, and the cluster's at a short path."""
    folder = os.open(state, os.O_PATH)  # it may be below /run, which is hidden in a moment
    _do_mount("tmpfs", "/run", "tmpfs", 0, "mode=755")
    INSIDE.folder.mkdir()
    _do_mount(f"/proc/self/fd/{folder}", str(INSIDE.folder), "", _MS_BIND)
    os.close(folder)
    for target, own in OWN_FOLDERS.items():
        own.mkdir(parents=True, exist_ok=True)
        _do_mount(str(own), target, "", _MS_BIND)
    settings = Path("/run/kernel-settings")
    settings.mkdir()
    for name, value in KERNEL_SETTINGS.items():
        setting = Path("/proc/sys") / name
        if setting.exists():
            instead = settings / name.replace("/", ".")
            instead.write_text(f"{value}\n", encoding="utf-8")
            _do_mount(str(instead), str(setting), "", _MS_BIND)


def _do_mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    arguments = (source.encode(), target.encode(), kind.encode(), flags, options.encode())
    if _LIBC.mount(*arguments) != 0:
        code = ctypes.get_errno()
        message = f"mounting {source} at {target}: {os.strerror(code)}"
        raise OSError(code, message)


def _is_overlay(folder: Path) -> bool:
    """Whether this folder is on an overlay file system, which can't be the base of another."""
    command = ["stat", "--file-system", "--format", "%T", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "overlayfs"


def _connect(machine: IPv4Address, address: IPv4Address, prefix_length: int) -> None:
    """Bring up the network: the loopback, the cable, and pods' way out under the node's address."""
    _run(["ip", "link", "set", "lo", "up"])
    _run(["ip", "address", "add", f"{address}/{prefix_length}", "dev", "eth0"])
    _run(["ip", "link", "set", "eth0", "up"])
    _run(["ip", "route", "add", "default", "via", str(machine)])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n", encoding="utf-8")
    _run(["nft", "--file", str(INSIDE.node / "network.nft")])


def _run(command: Sequence[str], given: bytes = b"") -> None:
    result = subprocess.run(
        command, input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if result.returncode != 0:
        said = result.stdout.decode(errors="replace").strip()
        sys.exit(f"node: `{' '.join(command)}` failed: {said}")


def _start(name: str, command: Sequence[str]) -> int:
    """Start a program with a log of its own; return its process number."""
    with INSIDE.log(name).open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    process.returncode = 0  # reaped in _wait, with the orphans: Popen must not wait for it
    return process.pid


def _wait_for_containerd(pid: int) -> None:
    deadline = time.monotonic() + _CONTAINERD_TIMEOUT_SECONDS
    command = configuration.ctr_command("version")
    while subprocess.run(command, capture_output=True, check=False).returncode != 0:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            _explain("containerd", status)
            sys.exit(1)
        if time.monotonic() > deadline:
            sys.exit("node: containerd does not answer")
        time.sleep(0.05)


def _wait(programs: dict[str, int]) -> int:
    """Reap orphans until one of the programs ends; say which and why."""
    while True:
        pid, status = os.wait()
        for name, each in programs.items():
            if each == pid:
                _explain(name, status)
                return 1


def _explain(name: str, status: int) -> None:
    print(explain_end(name, os.waitstatus_to_exitcode(status), INSIDE.log(name)), flush=True)


if __name__ == "__main__":
    main()
