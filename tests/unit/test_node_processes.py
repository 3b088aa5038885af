"""Processes as the node starts them: real ones, without any Kubernetes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from devcluster.node.processes import Exit, Order, Spawner
from devcluster.node.runtime import StartError
from devcluster.node.volumes import Mount

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from devcluster.node.processes import Process

PATH = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
NEEDS_LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="needs Linux' process adoption or namespaces"
)


class Machine:
    """A spawner, and the output of what it started."""

    def __init__(self, spawner: Spawner, directory: Path) -> None:
        """Keep orders and stages in the directory."""
        self.spawner = spawner
        self.directory = directory
        self.output = b""
        self._count = 0

    async def start(self, *command: str, **changes: Any) -> Process:
        """Start a command in a nearly empty environment."""
        self._count += 1
        stage = self.directory / "stage"
        stage.mkdir(exist_ok=True)
        order = {
            "command": command,
            "environment": {"PATH": PATH},
            "directory": str(self.directory),
            "mounts": (),
            "stage": stage,
            "file": self.directory / f"{self._count}.order",
        }
        return await self.spawner.run(Order(**{**order, **changes}), self._take)

    async def run(self, *command: str, **changes: Any) -> Exit:
        """Run a command to its end."""
        return await (await self.start(*command, **changes)).wait()

    def _take(self, chunk: bytes) -> None:
        self.output += chunk


def on_machine(directory: Path, body: Callable[[Machine], Awaitable[Any]]) -> Any:
    """Run a test's coroutine with a spawner, which is stopped whatever happens."""

    async def run() -> Any:
        spawner = Spawner()
        try:
            return await asyncio.wait_for(body(Machine(spawner, directory)), 30)
        finally:
            await spawner.stop()

    return asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds; the test's own time limit ends it otherwise."""
    while not condition():  # noqa: ASYNC110 - processes and files don't set events
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("kill -SEGV $$", 139)],
)
def test_exit_codes_and_signals(tmp_path: Path, script: str, code: int) -> None:
    """A signal n is 128 + n."""
    assert on_machine(tmp_path, lambda machine: machine.run("sh", "-c", script)) == Exit(code)


def test_output_keeps_the_order_of_both_streams(tmp_path: Path) -> None:
    """Also where they alternate at every line."""

    async def body(machine: Machine) -> bytes:
        await machine.run("sh", "-c", "for i in 1 2 3; do echo out $i; echo err $i >&2; done; printf end")
        return machine.output

    assert on_machine(tmp_path, body) == b"out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\nend"


def test_ten_megabytes_of_output_arrive_whole(tmp_path: Path) -> None:
    """And the end is told after the last of it."""

    async def body(machine: Machine) -> int:
        assert (await machine.run("sh", "-c", "head -c 10000000 /dev/zero")).code == 0
        return len(machine.output)

    assert on_machine(tmp_path, body) == 10_000_000


def test_the_environment_is_what_was_ordered(tmp_path: Path) -> None:
    """Nothing of this process' own; values may be any bytes."""

    async def body(machine: Machine) -> bytes:
        environment = {"PATH": PATH, "RAW": "\udcff", "EMPTY": ""}
        await machine.run("env", environment=environment)
        return machine.output

    assert sorted(on_machine(tmp_path, body).splitlines()) == sorted(
        [b"PATH=" + PATH.encode(), b"RAW=\xff", b"EMPTY="]
    )


def test_a_process_runs_in_its_directory_without_input(tmp_path: Path) -> None:
    """Reading from standard input meets its end."""

    async def body(machine: Machine) -> bytes:
        await machine.run("sh", "-c", "pwd; cat; umask")
        return machine.output

    assert on_machine(tmp_path, body) == f"{tmp_path}\n0022\n".encode()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-program", 'exec: "no-such-program": executable file not found in $PATH'),
        ("/no/such/program", 'exec: "/no/such/program": stat /no/such/program: no such file or directory'),
        ("./data", 'exec: "./data": stat ./data: permission denied'),
    ],
)
def test_what_cannot_be_executed_is_told_as_runc_tells_it(tmp_path: Path, command: str, message: str) -> None:
    """The message goes into the pod's status."""
    (tmp_path / "data").write_text("no program")

    async def body(machine: Machine) -> str:
        process = await machine.start(command)
        with pytest.raises(StartError) as caught:
            await process.started()
        assert await process.wait() == Exit(128)
        return str(caught.value)

    assert on_machine(tmp_path, body) == message


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    """With the directory's name."""

    async def body(machine: Machine) -> str:
        process = await machine.start("true", directory="/no/such")
        with pytest.raises(StartError) as caught:
            await process.started()
        return str(caught.value)

    assert on_machine(tmp_path, body) == (
        'chdir to cwd ("/no/such") set in config.json failed: no such file or directory'
    )


def test_terminate_asks_and_kill_ends(tmp_path: Path) -> None:
    """A process may handle SIGTERM; nothing handles SIGKILL."""

    async def body(machine: Machine) -> list[int]:
        codes = []
        for trap, ask in (("exit 7", "terminate"), (":", "kill")):
            machine.output = b""
            process = await machine.start(
                "sh", "-c", f"trap '{trap}' TERM; echo ready; while :; do sleep 0.05; done"
            )
            await until(lambda: b"ready" in machine.output)
            process.terminate() if ask == "terminate" else process.kill()
            codes.append((await process.wait()).code)
        return codes

    assert on_machine(tmp_path, body) == [7, 137]


@NEEDS_LINUX
def test_nothing_that_a_process_started_outlives_it(tmp_path: Path) -> None:
    """Not even what made itself a daemon with a session of its own."""
    script = "sleep 100 & echo $!; setsid sh -c 'sleep 100 & echo $!; wait' & sleep 0.3; exit 0"

    async def body(machine: Machine) -> list[int]:
        assert (await machine.run("sh", "-c", script)).code == 0
        return [int(line) for line in machine.output.split()]

    pids = on_machine(tmp_path, body)
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


@NEEDS_LINUX
@pytest.mark.parametrize("end", ["close", "crash"])
def test_no_process_outlives_the_node(tmp_path: Path, end: str) -> None:
    """Neither one that ends in order nor one that is killed."""
    program = f"""
import asyncio, os, signal, sys
from pathlib import Path
from devcluster.node.processes import Order, Spawner

async def main():
    spawner = Spawner()
    stage = Path({str(tmp_path)!r})
    command = ["sh", "-c", "setsid sleep 100 & echo $$ $!; wait"]
    order = Order(command, {{"PATH": {PATH!r}}}, "/", (), stage, stage / "order")
    told = asyncio.Event()
    def on_output(chunk):
        if chunk:
            print(chunk.decode(), flush=True)
            told.set()
    await spawner.run(order, on_output)
    await told.wait()
    if {end!r} == "crash":
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""

    async def body() -> list[int]:
        node = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        output, _ = await asyncio.wait_for(node.communicate(), 30)
        return [int(word) for word in output.split()]

    pids = asyncio.run(body())
    assert len(pids) == 2

    async def gone() -> None:
        await until(lambda: not any(_runs(pid) for pid in pids))

    asyncio.run(asyncio.wait_for(gone(), 10))


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@NEEDS_LINUX
def test_a_killed_spawner_is_replaced_and_its_processes_live_on(tmp_path: Path) -> None:
    """It only forks; what it forked is on its own."""

    async def body(machine: Machine) -> list[int]:
        before = {child.pid for child in psutil.Process().children()}
        first = await machine.start("sh", "-c", "sleep 0.5; exit 4")
        await first.started()
        (spawner,) = [child for child in psutil.Process().children() if child.pid not in before]
        os.kill(spawner.pid, signal.SIGKILL)
        second = await machine.run("sh", "-c", "exit 5")
        return [(await first.wait()).code, second.code]

    assert on_machine(tmp_path, body) == [4, 5]


@NEEDS_LINUX
def test_a_killed_keeper_takes_its_process_along(tmp_path: Path) -> None:
    """The node then counts it as killed."""

    async def body(machine: Machine) -> tuple[Exit, bool]:
        process = await machine.start("sleep", "100")
        pid = await process.started()
        parent = psutil.Process(pid).parent()
        assert parent is not None
        parent.kill()
        ended = await process.wait()
        await until(lambda: not _runs(pid))
        return ended, _runs(pid)

    assert on_machine(tmp_path, body) == (Exit(137), False)


@NEEDS_LINUX
def test_a_process_over_its_memory_limit_is_killed(tmp_path: Path) -> None:
    """Children count too; what forked workers share counts once."""
    grows = "x = bytearray(120_000_000); import time; time.sleep(20)"
    shares = """
import os, time
x = b"x" * 60_000_000
for _ in range(3):
    if os.fork() == 0:
        time.sleep(1)
        os._exit(0)
time.sleep(1)
"""

    async def body(machine: Machine) -> list[Exit]:
        limit = 100_000_000
        return [
            await machine.run("python", "-c", grows, memory_limit_bytes=limit),
            await machine.run("sh", "-c", f"python -c '{grows}'; exit 0", memory_limit_bytes=limit),
            await machine.run("python", "-c", shares, memory_limit_bytes=limit),
        ]

    over = Exit(137, out_of_memory=True)
    assert on_machine(tmp_path, body) == [over, over, Exit(0)]


def _has_mounts(directory: Path) -> bool:
    return bool(on_machine(directory, lambda machine: machine.spawner.has_mounts()))


@pytest.fixture
def needs_mounts(tmp_path: Path) -> None:
    """Skip where this machine does not let us make mount namespaces."""
    if not _has_mounts(tmp_path):
        pytest.skip("this machine allows no mount namespaces")


@pytest.mark.usefixtures("needs_mounts")
def test_mounts_are_seen_by_the_process_and_by_nobody_else(tmp_path: Path) -> None:
    """At paths that exist here and at paths that don't, nested ones too; the machine stays as it was."""
    volume = tmp_path / "volume"
    (volume / "deep").mkdir(parents=True)
    (volume / "file").write_text("content\n")
    termination = tmp_path / "termination"
    termination.touch()
    mounts = (
        Mount(volume, "/devcluster-test/config", read_only=True),
        Mount(volume, "/etc/devcluster-test.d", read_only=True),
        Mount(volume / "file", "/etc/devcluster-test.ini", read_only=True),
        Mount(termination, "/dev/termination-log", read_only=False),
        Mount(volume, "/var/run/secrets/kubernetes.io/serviceaccount", read_only=True),
        Mount(tmp_path, "/devcluster-test/config/deep", read_only=False),
    )
    script = """
cat /devcluster-test/config/file /etc/devcluster-test.d/file /etc/devcluster-test.ini \
    /var/run/secrets/kubernetes.io/serviceaccount/file /devcluster-test/config/deep/volume/file
echo done > /dev/termination-log
touch /devcluster-test/config/new 2>/dev/null && echo "written to a read-only volume"
touch /devcluster-test/config/deep/new && cat /etc/passwd >/dev/null && ls /proc/self >/dev/null
echo $?
"""

    async def body(machine: Machine) -> bytes:
        assert (await machine.run("sh", "-c", script, mounts=mounts)).code == 0
        return machine.output

    output = on_machine(tmp_path, body)
    assert output == b"content\n" * 5 + b"0\n"
    assert termination.read_text() == "done\n"
    assert (tmp_path / "new").exists()
    assert not any(
        Path(path).exists()
        for path in (
            "/devcluster-test",
            "/etc/devcluster-test.d",
            "/etc/devcluster-test.ini",
            "/dev/termination-log",
        )
    )


@pytest.mark.usefixtures("needs_mounts")
def test_files_of_a_covered_directory_stay_shared(tmp_path: Path) -> None:
    """A process that mounts something beside a file still changes the very file."""
    beside = tmp_path / "site"
    beside.mkdir()
    (beside / "db").write_text("old")
    (beside / "sub").mkdir()
    volume = tmp_path / "volume"
    volume.mkdir()
    mounts = (Mount(volume, str(beside / "config"), read_only=False),)

    async def body(machine: Machine) -> Exit:
        return await machine.run(
            "sh",
            "-c",
            f"test -d {beside}/config && echo new > {beside}/db && touch {beside}/sub/x",
            mounts=mounts,
        )

    assert on_machine(tmp_path, body) == Exit(0)
    assert (beside / "db").read_text() == "new\n"
    assert (beside / "sub" / "x").exists()
    assert not (beside / "config").exists()


@pytest.mark.usefixtures("needs_mounts")
def test_a_directory_mounted_on_itself_stays_the_real_one(tmp_path: Path) -> None:
    """What is written beside a volume in an image's directory is seen by everybody: a database's journal."""
    site, volume = tmp_path / "site", tmp_path / "volume"
    site.mkdir()
    volume.mkdir()
    (volume / "file").touch()
    mounts = (Mount(site, str(site), read_only=False), Mount(volume, f"{site}/config", read_only=True))

    async def body(machine: Machine) -> Exit:
        return await machine.run("sh", "-c", f"test -e {site}/config/file && touch {site}/new", mounts=mounts)

    assert on_machine(tmp_path, body) == Exit(0)
    assert (site / "new").exists()


@pytest.mark.usefixtures("needs_mounts")
def test_a_mount_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file can't be mounted on a directory."""
    (tmp_path / "file").touch()
    mounts = (Mount(tmp_path / "file", "/etc", read_only=False),)

    async def body(machine: Machine) -> str:
        process = await machine.start("true", mounts=mounts)
        with pytest.raises(StartError) as caught:
            await process.started()
        return str(caught.value)

    assert on_machine(tmp_path, body) == "mount /etc: not the same kind of file as what is mounted there"


def test_a_hundred_processes_at_once(tmp_path: Path) -> None:
    """All of them run side by side, and each is seen to its end."""

    async def body(machine: Machine) -> list[int]:
        marker = tmp_path / "go"
        script = f"while [ ! -e {marker} ]; do sleep 0.2; done; exit 9"
        processes = [await machine.start("sh", "-c", script) for _ in range(100)]
        for process in processes:
            await process.started()
        marker.touch()
        return [(await process.wait()).code for process in processes]

    assert on_machine(tmp_path, body) == [9] * 100


def test_the_order_is_removed_once_it_is_read(tmp_path: Path) -> None:
    """It may hold secrets."""

    async def body(machine: Machine) -> None:
        await machine.run("true", environment={"PATH": PATH, "PASSWORD": "hunter2"})

    on_machine(tmp_path, body)
    assert list(tmp_path.glob("*.order")) == []
