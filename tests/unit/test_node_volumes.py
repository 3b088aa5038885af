"""What a pod's volumes hold, and where they are mounted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from devcluster.node.fields import NodeFacts
from devcluster.node.sources import SourceName, Sources, source_of
from devcluster.node.volumes import (
    Mount,
    TokenRequest,
    VolumeError,
    VolumeFile,
    mounts,
    token_requests,
    volume_directory,
    volume_files,
)

NODE = NodeFacts("node-1", "127.0.0.1", {"cpu": "4"})
POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "2"}}}]},
}
SOURCES = Sources(
    "ns",
    {
        SourceName("configmap", "cm"): source_of(
            "configmap", {"data": {"a": "A", "b": "B"}, "binaryData": {"bin": "AAE="}}
        ),
        SourceName("secret", "s"): source_of("secret", {"data": {"key": "aHVudGVyMg=="}}),
    },
)


def files(**volume: Any) -> list[VolumeFile]:
    """Return the files of a volume called v, by path."""
    return sorted(volume_files({"name": "v", **volume}, POD, SOURCES, NODE), key=lambda file: file.path)


def test_a_configmap_is_a_file_a_key() -> None:
    """Binary data included, with the volume's mode."""
    assert files(configMap={"name": "cm", "defaultMode": 0o640}) == [
        VolumeFile("a", b"A", 0o640),
        VolumeFile("b", b"B", 0o640),
        VolumeFile("bin", b"\0\1", 0o640),
    ]


def test_items_choose_keys_paths_and_modes() -> None:
    """Only what is listed, where it is wanted."""
    items = [{"key": "a", "path": "deep/x.ini", "mode": 0o600}, {"key": "b", "path": "b2"}]
    assert files(configMap={"name": "cm", "items": items}) == [
        VolumeFile("b2", b"B", 0o644),
        VolumeFile("deep/x.ini", b"A", 0o600),
    ]


def test_a_secret_is_decoded() -> None:
    """As a file."""
    assert files(secret={"secretName": "s"}) == [VolumeFile("key", b"hunter2", 0o644)]


def test_the_downward_api_as_files() -> None:
    """Fields and resources."""
    items = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}},
    ]
    assert files(downwardAPI={"items": items}) == [
        VolumeFile("cpu", b"2", 0o644),
        VolumeFile("labels", b'app="web"', 0o644),
    ]


def test_a_projected_volume_holds_all_its_sources() -> None:
    """The later of two files at one path wins; tokens come from elsewhere."""
    parts = [
        {"configMap": {"name": "cm", "items": [{"key": "a", "path": "same"}]}},
        {"secret": {"name": "s", "items": [{"key": "key", "path": "same"}]}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"serviceAccountToken": {"path": "token"}},
    ]
    assert files(projected={"sources": parts, "defaultMode": 0o400}) == [
        VolumeFile("name", b"p", 0o400),
        VolumeFile("same", b"hunter2", 0o400),
    ]


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (
            {"configMap": {"name": "none"}},
            'MountVolume.SetUp failed for volume "v" : configmaps "none" not found',
        ),
        (
            {"configMap": {"name": "cm", "items": [{"key": "none", "path": "x"}]}},
            'MountVolume.SetUp failed for volume "v" : configmap references non-existent config key: none',
        ),
        (
            {"secret": {"secretName": "s", "items": [{"key": "none", "path": "x"}]}},
            'MountVolume.SetUp failed for volume "v" : references non-existent secret key: none',
        ),
        (
            {"persistentVolumeClaim": {"claimName": "x"}},
            'MountVolume.SetUp failed for volume "v" : not supported by a devcluster: persistentVolumeClaim',
        ),
        (
            {"projected": {"sources": [{"clusterTrustBundle": {}}]}},
            'MountVolume.SetUp failed for volume "v" : not supported by a devcluster: clusterTrustBundle',
        ),
    ],
)
def test_what_cannot_be_set_up_is_told(volume: dict[str, Any], message: str) -> None:
    """The message goes into a FailedMount event."""
    with pytest.raises(VolumeError) as caught:
        files(**volume)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "volume",
    [
        {"configMap": {"name": "none", "optional": True}},
        {"secret": {"secretName": "none", "optional": True}},
        {"configMap": {"name": "cm", "optional": True, "items": [{"key": "none", "path": "x"}]}},
        {"projected": {"sources": [{"secret": {"name": "none", "optional": True}}]}},
        {"emptyDir": {}},
        {"hostPath": {"path": "/srv"}},
    ],
)
def test_what_is_optional_or_empty_has_no_files(volume: dict[str, Any]) -> None:
    """It is an empty directory."""
    assert files(**volume) == []


def test_tokens_are_asked_for() -> None:
    """With their audience and life."""
    parts = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"serviceAccountToken": {"path": "vault", "audience": "vault"}},
    ]
    pod = {
        "spec": {"volumes": [{"name": "v", "projected": {"sources": parts}}, {"name": "e", "emptyDir": {}}]}
    }
    assert token_requests(pod) == (
        TokenRequest("v", "token", 0o644, None, 3607),
        TokenRequest("v", "vault", 0o644, "vault", 3600),
    )


VOLUMES = {
    "spec": {
        "volumes": [
            {"name": "config", "configMap": {"name": "cm"}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "host", "hostPath": {"path": "/srv/x"}},
        ]
    }
}
DIRECTORIES = {
    each["name"]: volume_directory(each, Path("/pod/volumes"))
    for each in VOLUMES["spec"]["volumes"]
    if isinstance(each["name"], str)
}


def mounted(*wanted: dict[str, Any]) -> tuple[Mount, ...]:
    """Return the mounts of a container."""
    return mounts(VOLUMES, {"name": "c", "volumeMounts": list(wanted)}, DIRECTORIES, {"POD": "p-1"})


def test_parents_are_mounted_before_what_is_in_them() -> None:
    """Whatever the order in the spec; what the node wrote can't be written by the pod."""
    assert mounted(
        {"name": "scratch", "mountPath": "/data/cache"},
        {"name": "config", "mountPath": "/data"},
        {"name": "host", "mountPath": "/h", "readOnly": True},
    ) == (
        Mount(Path("/pod/volumes/config"), "/data", read_only=True),
        Mount(Path("/srv/x"), "/h", read_only=True),
        Mount(Path("/pod/volumes/scratch"), "/data/cache", read_only=False),
    )


def test_a_part_of_a_volume_can_be_mounted() -> None:
    """subPath, and subPathExpr with the container's variables."""
    assert mounted(
        {"name": "config", "mountPath": "/etc/x.ini", "subPath": "deep/x.ini"},
        {"name": "scratch", "mountPath": "/var/own", "subPathExpr": "of/$(POD)"},
    ) == (
        Mount(Path("/pod/volumes/config/deep/x.ini"), "/etc/x.ini", read_only=True),
        Mount(Path("/pod/volumes/scratch/of/p-1"), "/var/own", read_only=False),
    )


@pytest.mark.parametrize("sub_path", ["../secret", "/etc", "a/../../b"])
def test_a_part_outside_of_the_volume_is_refused(sub_path: str) -> None:
    """A pod must not reach this machine's files through a volume."""
    with pytest.raises(VolumeError, match="subPath must be a relative path"):
        mounted({"name": "scratch", "mountPath": "/x", "subPath": sub_path})
