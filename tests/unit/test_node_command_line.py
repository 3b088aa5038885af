"""The node's command line: wrong input ends with a sentence and an exit code, not with a traceback."""

from __future__ import annotations

import fcntl
import json
import socket
from pathlib import Path

import pytest

from devcluster.node.__main__ import main


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    """Write a kubeconfig of an API server that isn't there."""
    path = tmp_path / "kubeconfig"
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
    }
    path.write_text(json.dumps(config))
    return path


def arguments(kubeconfig: Path, *more: str) -> list[str]:
    """Return what every node is started with."""
    return [
        *("--kubeconfig", str(kubeconfig), "--name", "n"),
        *("--state-dir", str(kubeconfig.parent / "state"), *more),
    ]


def test_a_missing_kubeconfig_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its path."""
    assert main(arguments(tmp_path / "none", "--instant")) == 1
    assert "devcluster node: " in (told := capsys.readouterr().err)
    assert str(tmp_path / "none") in told


def test_wrong_images_are_told(kubeconfig: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At the start, not with the first pod."""
    images = kubeconfig.with_name("images.json")
    images.write_text('{"webapp": {}}')
    assert main(arguments(kubeconfig, "--images", str(images))) == 1
    assert "images: webapp: expected" in capsys.readouterr().err


def test_images_are_needed_to_run_pods(kubeconfig: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """But not to finish them at once."""
    with pytest.raises(SystemExit):
        main(arguments(kubeconfig))
    assert "--images is required without --instant" in capsys.readouterr().err


def test_two_nodes_do_not_share_a_state_directory(
    kubeconfig: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second one would remove the first one's files."""
    state = kubeconfig.parent / "state"
    state.mkdir()
    with (state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(arguments(kubeconfig, "--instant")) == 1
    assert f"{state} is in use by another node" in capsys.readouterr().err


def test_a_taken_port_is_told(kubeconfig: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before any pod is taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(arguments(kubeconfig, "--instant", "--port", port)) == 1
    assert "address already in use" in capsys.readouterr().err
