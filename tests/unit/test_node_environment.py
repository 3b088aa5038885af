"""A container's environment: envFrom, env, expansion, and what happens when something is missing."""

from __future__ import annotations

from typing import Any

import pytest

from devcluster.node.environment import container_environment
from devcluster.node.fields import FieldError, NodeFacts
from devcluster.node.sources import (
    MissingSourceError,
    SourceName,
    Sources,
    environment_sources,
    source_of,
    volume_sources,
)

NODE = NodeFacts("node-1", "127.0.0.1", {"cpu": "4", "memory": "8Gi"})
SERVICES = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}
POD: dict[str, Any] = {
    "metadata": {
        "name": "p",
        "namespace": "ns",
        "uid": "u",
        "annotations": {"crontabber.dev/run-time": "2026-11-24T08:00"},
    },
    "spec": {"containers": [{"name": "c"}]},
}
SOURCES = Sources(
    "ns",
    {
        SourceName("configmap", "cm"): source_of(
            "configmap", {"data": {"A": "from-cm", "odd.key-x": "odd"}, "binaryData": {"BIN": "AAE="}}
        ),
        SourceName("configmap", "later"): source_of("configmap", {"data": {"A": "later"}}),
        SourceName("secret", "s"): source_of("secret", {"data": {"PASSWORD": "aHVudGVyMg==", "RAW": "/w=="}}),
    },
)


def environment(**container: Any) -> dict[str, str]:
    """Resolve a container, without the variables of the API server."""
    resolved = container_environment(POD, {"name": "c", **container}, SOURCES, NODE, SERVICES)
    return {key: value for key, value in resolved.variables.items() if key not in SERVICES}


def ref(kind: str, name: str, key: str = "", **more: Any) -> dict[str, Any]:
    """Return a valueFrom."""
    return {"valueFrom": {kind: {"name": name, "key": key, **more}}}


def test_values_expand_to_what_stands_above_them() -> None:
    """Not to what stands below; an unknown name stays; `$$` escapes."""
    env = [
        {"name": "FIRST", "value": "1"},
        {"name": "SECOND", "value": "$(FIRST)-$(THIRD)-$$(FIRST)"},
        {"name": "THIRD", "value": "3"},
    ]
    assert environment(env=env) == {"FIRST": "1", "SECOND": "1-$(THIRD)-$(FIRST)", "THIRD": "3"}


def test_values_expand_to_envfrom_and_the_api_servers_address() -> None:
    """What envFrom brings is resolved first."""
    env = [{"name": "URL", "value": "https://$(KUBERNETES_SERVICE_HOST):$(KUBERNETES_SERVICE_PORT)/$(A)"}]
    resolved = environment(envFrom=[{"configMapRef": {"name": "cm"}}], env=env)
    assert resolved["URL"] == "https://127.0.0.1:6443/from-cm"


def test_env_wins_over_envfrom_and_later_over_earlier() -> None:
    """The kubelet's order."""
    env_from = [{"configMapRef": {"name": "cm"}}, {"configMapRef": {"name": "later"}}]
    assert environment(envFrom=env_from)["A"] == "later"
    assert environment(envFrom=env_from, env=[{"name": "A", "value": "own"}])["A"] == "own"
    twice = [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}]
    assert environment(env=twice)["A"] == "12"


def test_envfrom_takes_data_with_a_prefix_but_no_binary_data() -> None:
    """Names that no shell accepts are taken too, as since Kubernetes 1.34."""
    assert environment(envFrom=[{"prefix": "P_", "configMapRef": {"name": "cm"}}]) == {
        "P_A": "from-cm",
        "P_odd.key-x": "odd",
    }


def test_secrets_are_decoded_and_keep_bytes_that_are_no_text() -> None:
    """The process gets the very bytes."""
    resolved = environment(envFrom=[{"secretRef": {"name": "s"}}])
    assert resolved["PASSWORD"] == "hunter2"
    assert resolved["RAW"].encode(errors="surrogateescape") == b"\xff"


def test_single_keys_and_fields() -> None:
    """configMapKeyRef, secretKeyRef, fieldRef, resourceFieldRef."""
    env = [
        {"name": "CM", **ref("configMapKeyRef", "cm", "A")},
        {"name": "SECRET", **ref("secretKeyRef", "s", "PASSWORD")},
        {
            "name": "RUN_TIME",
            "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['crontabber.dev/run-time']"}},
        },
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "NOTHING"},
    ]
    assert environment(env=env) == {
        "CM": "from-cm",
        "SECRET": "hunter2",
        "RUN_TIME": "2026-11-24T08:00",
        "CPU": "4",
        "NOTHING": "",
    }


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ({"envFrom": [{"configMapRef": {"name": "none"}}]}, 'configmaps "none" not found'),
        ({"envFrom": [{"secretRef": {"name": "none"}}]}, 'secrets "none" not found'),
        ({"env": [{"name": "X", **ref("configMapKeyRef", "none", "k")}]}, 'configmaps "none" not found'),
        (
            {"env": [{"name": "X", **ref("configMapKeyRef", "cm", "k")}]},
            "couldn't find key k in ConfigMap ns/cm",
        ),
        ({"env": [{"name": "X", **ref("secretKeyRef", "s", "k")}]}, "couldn't find key k in Secret ns/s"),
        (
            {"env": [{"name": "X", **ref("configMapKeyRef", "cm", "BIN")}]},
            "couldn't find key BIN in ConfigMap ns/cm",
        ),
    ],
)
def test_what_is_missing_is_named(container: dict[str, Any], message: str) -> None:
    """The message is the kubelet's."""
    with pytest.raises(MissingSourceError) as caught:
        environment(**container)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "container",
    [
        {"envFrom": [{"configMapRef": {"name": "none", "optional": True}}]},
        {"envFrom": [{"secretRef": {"name": "none", "optional": True}}]},
        {"env": [{"name": "X", **ref("configMapKeyRef", "none", "k", optional=True)}]},
        {"env": [{"name": "X", **ref("configMapKeyRef", "cm", "k", optional=True)}]},
        {"env": [{"name": "X", **ref("secretKeyRef", "s", "k", optional=True)}]},
    ],
)
def test_what_is_optional_and_missing_is_not_set(container: dict[str, Any]) -> None:
    """Not even to the empty string."""
    assert environment(**container) == {}


def test_an_unknown_field_is_an_error() -> None:
    """It becomes CreateContainerConfigError."""
    env = [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "spec.nope"}}}]
    with pytest.raises(FieldError):
        environment(env=env)


def test_what_no_process_can_hold_is_skipped_and_told() -> None:
    """A NUL byte ends an environment string."""
    sources = Sources("ns", {SourceName("configmap", "nul"): source_of("configmap", {"data": {"A": "x\0y"}})})
    container = {"name": "c", "envFrom": [{"configMapRef": {"name": "nul"}}]}
    resolved = container_environment(POD, container, sources, NODE, {})
    assert (resolved.variables, resolved.skipped) == ({}, ("A",))


def test_words_expand_to_the_whole_environment() -> None:
    """Args see env, envFrom and the API server's address."""
    container = {
        "name": "c",
        "env": [{"name": "X", "value": "1"}],
        "envFrom": [{"configMapRef": {"name": "cm"}}],
    }
    resolved = container_environment(POD, container, SOURCES, NODE, SERVICES)
    assert resolved.expand_all(["--x=$(X)", "$(A)", "$(KUBERNETES_SERVICE_PORT)", "$(NO)"]) == [
        "--x=1",
        "from-cm",
        "6443",
        "$(NO)",
    ]


def test_every_named_source_is_found() -> None:
    """What is to be read from the API before a container can be started."""
    container = {
        "envFrom": [{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "b"}}],
        "env": [
            {"name": "X", **ref("configMapKeyRef", "c", "k")},
            {"name": "Y", **ref("secretKeyRef", "d", "k")},
            {"name": "Z", "value": "z"},
        ],
    }
    assert environment_sources(container) == {
        SourceName("configmap", "a"),
        SourceName("secret", "b"),
        SourceName("configmap", "c"),
        SourceName("secret", "d"),
    }
    pod = {
        "spec": {
            "volumes": [
                {"name": "1", "configMap": {"name": "e"}},
                {"name": "2", "secret": {"secretName": "f"}},
                {
                    "name": "3",
                    "projected": {"sources": [{"configMap": {"name": "g"}}, {"secret": {"name": "h"}}]},
                },
                {"name": "4", "emptyDir": {}},
            ]
        }
    }
    assert volume_sources(pod) == {
        SourceName("configmap", "e"),
        SourceName("secret", "f"),
        SourceName("configmap", "g"),
        SourceName("secret", "h"),
    }
