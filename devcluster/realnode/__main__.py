"""The part of a node of real containers that is outside of it: its cable, its way to the API server, its end.

Run by the supervisor as one component: when it ends, in whatever way, the node ends with it, as a machine that
lost its power. It decides nothing about pods; that is done `inside`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from devcluster.components import Layout
from devcluster.ports import Ports
from devcluster.processes import end_with_parent
from devcluster.realnode.configuration import Cable, cable
from devcluster.realnode.forwarding import forward
from devcluster.realnode.leftovers import prepare, remove_leftovers
from devcluster.realnode.prerequisites import pause_program, plugins_folder

_NAMESPACES_TIMEOUT_SECONDS = 10.0


def main() -> None:
    """Run the node until SIGTERM or its end; exit with 1 where it ended by itself."""
    parser = argparse.ArgumentParser(prog="devcluster.realnode")
    parser.add_argument("--name", required=True, help="the cluster's")
    parser.add_argument("--node-name", required=True)
    parser.add_argument("--state", type=Path, required=True, help="the cluster's folder")
    parser.add_argument("--port", type=int, required=True, help="the first of the cluster's ports")
    parser.add_argument("--binaries", type=Path, required=True, help="the folder of kubelet and kube-proxy")
    given = parser.parse_args()
    layout = Layout(given.state)
    remove_leftovers(given.name, layout)  # of a node that was killed
    prepare(given.name, layout)
    try:
        ended = asyncio.run(_run(given, layout, cable(given.port)))
    finally:
        remove_leftovers(given.name, layout)
    sys.exit(1 if ended else 0)


async def _run(given: argparse.Namespace, layout: Layout, wire: Cable) -> bool:
    """Be the node; return whether it ended by itself."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--mount", "--pid", "--net", "--fork", "--kill-child=SIGKILL", "--mount-proc"),
        *(sys.executable, "-m", "devcluster.realnode.inside"),
        *("--name", given.name, "--node-name", given.node_name, "--state", str(given.state)),
        *("--machine", str(wire.machine), "--address", str(wire.node)),
        *("--prefix-length", str(wire.prefix_length)),
        *("--binaries", str(given.binaries)),
        *("--pause", str(pause_program()), "--plugins", str(plugins_folder())),
        stdin=subprocess.PIPE,
        preexec_fn=end_with_parent(signal.SIGKILL),
    )
    try:
        _wait_for_namespaces(process.pid)
        _plug_in(wire, process.pid)
        (layout.node / "pid").write_text(str(process.pid), encoding="utf-8")
        async with await forward(wire.machine, Ports(given.port).api_server):
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            ended, stopped = asyncio.create_task(process.wait()), asyncio.create_task(stop.wait())
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            return ended.done()
    finally:
        _kill(process.pid)
        await process.wait()  # which is when the last process of the node is gone


def _wait_for_namespaces(pid: int) -> None:
    """Wait until the child has left this machine's network. Raises TimeoutError."""
    ours = Path("/proc/self/ns/net").readlink()
    deadline = time.monotonic() + _NAMESPACES_TIMEOUT_SECONDS
    while Path(f"/proc/{pid}/ns/net").readlink() == ours:
        if time.monotonic() > deadline:
            raise TimeoutError("the node did not get namespaces of its own")
        time.sleep(0.01)


def _plug_in(wire: Cable, pid: int) -> None:
    """Lay the cable. The kernel takes it away with the node's end of it."""
    for command in (
        f"link add {wire.interface} type veth peer name eth0 netns {pid}",
        f"address add {wire.machine}/{wire.prefix_length} dev {wire.interface}",
        f"link set {wire.interface} up",
    ):
        subprocess.run(["ip", *command.split()], check=True)


def _kill(pid: int) -> None:
    """Kill process 1 of the node, and with it all others."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        if children:
            return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
