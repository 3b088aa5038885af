"""The node of real containers: what is decided about it without starting anything."""

from __future__ import annotations

import io
import json
import tarfile
import tomllib
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devcluster import ClusterError, build, nodes
from devcluster.cluster import Cluster
from devcluster.components import Layout
from devcluster.imagebuild.buildah import full_name
from devcluster.imagebuild.pip_settings import CERTIFICATES, pip_settings
from devcluster.images import LocalImage
from devcluster.ports import Ports
from devcluster.realnode import configuration, leftovers, prerequisites
from devcluster.realnode.pause import pause_image

BLOCKS = st.integers(0, 999).map(lambda number: 20000 + 10 * number)


@given(BLOCKS, BLOCKS)
def test_no_two_clusters_share_a_cable(first: int, second: int) -> None:
    """Each block of ports has a network of its own, in the range that no real network has."""
    one, other = configuration.cable(first), configuration.cable(second)
    networks = [IPv4Network(f"{each.machine}/{each.prefix_length}", strict=False) for each in (one, other)]
    assert one.node in networks[0]
    assert networks[0].subnet_of(IPv4Network("198.18.0.0/15"))
    assert networks[0].overlaps(networks[1]) == (first == second)
    assert (one.interface == other.interface) == (first == second)
    assert len(one.interface) < 16  # what the kernel takes for an interface's name


def test_configuration_files_are_what_their_readers_take() -> None:
    """JSON and TOML that can be read, which name the same socket and no path outside of the node."""
    files = configuration.files(
        cluster="dev", node_name="devcluster-dev", snapshotter="native", plugins=Path("/usr/lib/cni")
    )
    containerd = tomllib.loads(files["containerd.toml"])
    kubelet = json.loads(files["kubelet.json"])
    assert kubelet["containerRuntimeEndpoint"] == f"unix://{containerd['grpc']['address']}"
    assert kubelet["cgroupRoot"] == configuration.cgroup_of("dev")
    cri = containerd["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["sandbox_image"] == configuration.PAUSE_IMAGE
    assert cri["containerd"]["snapshotter"] == "native"
    assert json.loads(files["cni/devcluster.conflist"])["plugins"][0]["type"] == "bridge"
    assert json.loads(files["kube-proxy.json"])["hostnameOverride"] == "devcluster-dev"


def test_only_the_node_of_real_containers_asks_something_of_the_api_server() -> None:
    """Its pods find the API server behind its Service, at this machine's end of the cable."""
    ports = Ports(20010)
    for kind in nodes.NODE_KINDS:
        flags = nodes.api_server_flags(kind, ports)
        assert bool(flags) == (kind == nodes.REAL)
        address = nodes.api_server_address(kind, ports)
        assert address == ("198.18.0.5" if kind == nodes.REAL else "127.0.0.1")
        assert kind != nodes.REAL or f"--advertise-address={address}" in flags


def test_each_kind_of_node_has_its_programs() -> None:
    """A scheduler and a node for real containers, a node that schedules itself otherwise, none for `none`."""
    binaries = {name: Path("/cache") / name for name in (*build.CONTROL_PLANE, *build.REAL_NODE)}
    made = {
        kind: [
            each.name
            for each in nodes.node_components(
                kind,
                python="python",
                layout=Layout(Path("/state/dev")),
                ports=Ports(20000),
                node_name="devcluster-dev",
                binaries=binaries,
            )
        ]
        for kind in nodes.NODE_KINDS
    }
    assert made == {
        "process": ["node"],
        "containerd": ["kube-scheduler", "node"],
        "instant": ["node"],
        "none": [],
    }


def test_pause_image_runs_its_one_program() -> None:
    """An archive as `docker save` writes it, with the program in its only layer."""
    with tarfile.open(fileobj=io.BytesIO(pause_image(b"program", "localhost/pause:1"))) as archive:
        files = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]
    (described,) = json.loads(files["manifest.json"])
    assert described["RepoTags"] == ["localhost/pause:1"]
    assert json.loads(files[described["Config"]])["config"]["Entrypoint"] == ["/pause", "-P"]
    with tarfile.open(fileobj=io.BytesIO(files[described["Layers"][0]])) as layer:
        entry = layer.getmember("pause")
        assert (entry.size, entry.mode) == (7, 0o755)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("webapp", "docker.io/library/webapp:latest"),
        ("webapp:1.2", "docker.io/library/webapp:1.2"),
        ("team/webapp", "docker.io/team/webapp:latest"),
        ("localhost/webapp:1", "localhost/webapp:1"),
        ("registry.example/team/site", "registry.example/team/site:latest"),
        ("registry:5000/site", "registry:5000/site:latest"),
        ("registry:5000/site:2", "registry:5000/site:2"),
    ],
)
def test_names_of_images_are_completed_as_nodes_do(name: str, full: str) -> None:
    """What pods call an image is what the node finds it by."""
    assert full_name(name) == full


def test_pip_in_an_image_is_told_what_this_machine_s_pip_is_told(tmp_path: Path) -> None:
    """The index and the certificates are taken over, a later file and a variable count more; folders are not."""
    first, second, bundle = tmp_path / "first", tmp_path / "second", tmp_path / "bundle.crt"
    bundle.touch()
    first.write_text(f"[global]\nindex-url = https://a.example/simple\ntimeout = 5\ncert = {bundle}\n")
    second.write_text("[install]\nindex-url = https://b.example/simple\n")
    environment = {"PIP_TIMEOUT": "60", "PIP_FIND_LINKS": "/wheels", "HOME": "/"}
    told = pip_settings(environment, [first, second, tmp_path / "none"])
    assert told.certificates == bundle
    assert told.text.splitlines() == [
        "[global]",
        "index-url = https://b.example/simple",
        "timeout = 60",
        f"cert = {CERTIFICATES}",
    ]


def test_without_settings_pip_is_told_nothing(tmp_path: Path) -> None:
    """A certificate bundle that isn't there is not asked for."""
    told = pip_settings({"PIP_CERT": str(tmp_path / "none")}, [])
    assert (told.text, told.certificates) == ("[global]\n", None)


@pytest.mark.parametrize(
    ("platform", "user", "said"),
    [("darwin", 0, "real containers need Linux"), ("linux", 1000, "real containers need root")],
)
def test_what_is_missing_for_real_containers_is_said_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, platform: str, user: int, said: str
) -> None:
    """Before anything is started or installed."""
    monkeypatch.setattr(prerequisites.sys, "platform", platform)
    monkeypatch.setattr(prerequisites.os, "geteuid", lambda: user)
    with pytest.raises(ClusterError, match=said):
        Cluster.start("never", node="containerd")


def test_programs_that_cannot_be_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no apt-get the packages are named, so that a person can install them."""
    monkeypatch.setattr(prerequisites.shutil, "which", lambda program: None)
    with pytest.raises(prerequisites.MissingError, match=r"no apt-get to install them with: buildah"):
        prerequisites.install_programs({"buildah": "buildah"})


def test_real_containers_take_no_mapped_images(tmp_path: Path) -> None:
    """A local directory can't stand for an image there; it is said what to do instead."""
    with pytest.raises(ClusterError, match="give it archives with `load`"):
        Cluster.start("never", node="containerd", images={"app": LocalImage.of(tmp_path)})


def test_mount_points_go_with_the_last_node_that_needs_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only folders that were made for nodes are removed, only while they are empty, and not under another node."""
    there, made, used = (tmp_path / name for name in ("there", "made", "used"))
    there.mkdir()
    cgroups = tmp_path / "cgroup"
    (cgroups / "memory").mkdir(parents=True)
    monkeypatch.setattr(leftovers, "_CGROUPS", cgroups)
    monkeypatch.setattr(leftovers, "_NOTES", tmp_path / "notes.json")
    monkeypatch.setattr(leftovers, "OWN_FOLDERS", {str(path): path for path in (there, made, used)})
    layouts = {name: Layout(tmp_path / name) for name in ("one", "two", "process")}
    for layout in layouts.values():
        layout.node.mkdir(parents=True)
    for name in ("one", "two", "one"):  # the first one is started again
        leftovers.prepare(name, layouts[name])
    (cgroups / "memory" / "crontabber-devcluster-one" / "kubepods").mkdir()
    assert made.is_dir()
    leftovers.remove_leftovers("one", layouts["one"])
    assert made.is_dir()
    assert [path.name for path in cgroups.rglob("crontabber*")] == ["crontabber-devcluster-two"]
    leftovers.remove_leftovers("process", layouts["process"])
    (used / "file").touch()
    leftovers.remove_leftovers("two", layouts["two"])
    assert [path.exists() for path in (there, made, used)] == [True, False, True]
    assert not list(cgroups.rglob("crontabber*"))
