"""`make kind-up`: what is said to docker and kind, with stand-ins for them that write down what they were told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devcluster import kind
from devcluster.cluster import ClusterError

STAND_IN = """\
#!/bin/sh
echo "$(basename "$0") $*" >> "$SAID"
case "$(basename "$0") $*" in
"kind get clusters") test -e "$SAID.up" && echo crontabber-e2e; exit 0 ;;
"kind create"*) cat > "$SAID.config"; touch "$SAID.up" ;;
"kind export kubeconfig"*) for each; do last="$each"; done; echo first > "${last#--kubeconfig=}" ;;
"kind get kubeconfig"*) printf 'clusters:\\n- cluster:\\n    certificate-authority-data: Q0E=\\n'
  printf '    server: https://127.0.0.1:6443\\n  name: kind\\n' ;;
"kind delete"*) rm -f "$SAID.up" ;;
"kubectl create token"*) echo the-token ;;
"docker build"*) test -z "$BROKEN" || { echo no such base; exit 1; } ;;
esac
"""


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the stand-ins first on PATH; return the file of what they were told."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("docker", "kind", "kubectl"):
        (programs / name).write_text(STAND_IN)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("SAID", str(tmp_path / "said"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "said"


def test_cluster_is_made_once_and_shares_the_folder(said: Path, tmp_path: Path) -> None:
    """The second time it is only logged in to; the kubeconfig has a token and the context that tests may touch."""
    shared = tmp_path / "shared"
    kind.KindCluster.up(shared)
    cluster = kind.KindCluster.up(shared)
    told = said.read_text().splitlines()
    assert len([line for line in told if line.startswith("kind create cluster")]) == 1
    config = json.loads(said.with_name("said.config").read_text())
    assert config["nodes"][0]["extraMounts"] == [{"hostPath": str(shared), "containerPath": str(shared)}]
    kubeconfig = json.loads(cluster.kubeconfig.read_text())
    assert kubeconfig["current-context"] == "kind-crontabber-e2e"
    assert kubeconfig["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:6443"
    assert kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"] == "Q0E="
    assert kubeconfig["users"][0]["user"] == {"token": "the-token"}
    assert cluster.kubeconfig.stat().st_mode & 0o077 == 0


def test_images_are_built_by_docker_and_loaded(said: Path, tmp_path: Path) -> None:
    """With their build arguments, under the name that pods use."""
    kind.KindCluster().build_and_load("webapp:1", tmp_path, arguments={"VERSION": "1"})
    assert said.read_text().splitlines() == [
        f"docker build --tag=webapp:1 --file={tmp_path}/Dockerfile --build-arg=VERSION=1 {tmp_path}",
        "kind load docker-image webapp:1 --name=crontabber-e2e",
    ]


def test_failing_build_is_told(said: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command, and nothing is loaded."""
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(ClusterError, match="docker build"):
        kind.KindCluster().build_and_load("webapp", tmp_path)
    assert "kind load" not in said.read_text()


def test_part_of_the_control_plane_is_taken_away_and_put_back(said: Path) -> None:
    """By its manifest: the node would start again what is merely killed."""
    cluster = kind.KindCluster()
    cluster.kill("kube-controller-manager")
    cluster.start_component("kube-controller-manager")
    moves = [line for line in said.read_text().splitlines() if "mv " in line]
    folder = "/etc/kubernetes/manifests/kube-controller-manager.yaml"
    assert moves[0].endswith(f"mv {folder} /kube-controller-manager.yaml")
    assert moves[1].endswith(f"mv /kube-controller-manager.yaml {folder}")


def test_without_docker_it_says_what_runs_instead(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and an exit code."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(kind.sys, "argv", ["kind", "up"])
    assert kind.main() == 1
    told = capsys.readouterr().err
    assert "there is no docker" in told
    assert "`make e2e` runs without it" in told
