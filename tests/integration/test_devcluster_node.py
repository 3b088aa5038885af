"""The node on a real control plane: what a pod gets, what the API is told, what `kubectl` shows."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from devcluster import Cluster, ClusterError, build
from devcluster.images import LocalImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.timeout(180)

WAIT_SECONDS = 60
"""How long anything may take before a test gives up; nothing takes that long."""
_numbers = count()


@dataclass(frozen=True)
class Namespace:
    """A namespace of the test's own on a cluster."""

    cluster: Cluster
    name: str

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in the namespace."""
        return self.cluster.kubectl("--namespace", self.name, *arguments, stdin=stdin)

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Create objects."""
        self.kubectl("create", "-f", "-", stdin="\n---\n".join(json.dumps(each) for each in manifests))

    def get(self, *what: str) -> dict[str, Any]:
        """Return an object or a list."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *what, "-o", "json"))
        return found

    def until(self, what: str, holds: str, *more: str) -> None:
        """Wait for a condition or, as `{.path}=value`, for a field."""
        form = f"jsonpath={holds}" if holds.startswith("{") else holds
        if "-l" in more:  # kubectl does not wait for what is still to be made
            eventually(lambda: self.get(what, *more)["items"], f"{what} {' '.join(more)}")
        self.kubectl("wait", what, f"--for={form}", f"--timeout={WAIT_SECONDS}s", *more)

    def pod(self, name: str, script: str = "", **changes: Any) -> dict[str, Any]:
        """Create a pod with one container that runs a shell script, and return its manifest."""
        manifest = pod_manifest(name, script, **changes)
        self.apply(manifest)
        return manifest

    def finished(self, name: str) -> dict[str, Any]:
        """Wait until a pod has ended, and return it."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            found = self.get("pod", name)
            if found["status"]["phase"] in ("Succeeded", "Failed"):
                return found
            assert time.monotonic() < deadline, found["status"]
            # a watch on the phase as it is now: returns as soon as it is another
            self._wait_for_change(name, found["status"]["phase"])

    def _wait_for_change(self, name: str, phase: str) -> None:
        path = "jsonpath={.status.phase}{'\\n'}"
        # Of a list: of one object by its name, kubectl leaves out what changed between its reading and its watch.
        only = f"--field-selector=metadata.name={name}"
        with self.follow("get", "pods", only, "--watch", "-o", path) as lines:
            for line in lines:
                if line.strip() != phase:
                    return

    def container(self, pod: str, name: str = "main") -> dict[str, Any]:
        """Return the status of a container."""
        status = self.get("pod", pod)["status"]
        every = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
        return next(each for each in every if each["name"] == name)

    def printed(self, pod: str) -> str:
        """Return what a pod has printed so far, nothing before it was started."""
        try:
            return self.kubectl("logs", pod)
        except ClusterError:
            return ""

    def events(self, pod: str) -> list[tuple[str, str]]:
        """Return reasons and messages of the events of a pod."""
        found = self.get("events", "--field-selector", f"involvedObject.name={pod}")["items"]
        return [(each["reason"], each["message"]) for each in found]

    @contextmanager
    def follow(self, *arguments: str) -> Iterator[Iterator[str]]:
        """Run kubectl and yield its output line by line, as it comes; ended at the end."""
        process = subprocess.Popen(
            [str(build.path_of("kubectl")), "--namespace", self.name, *arguments],
            env=os.environ | {"KUBECONFIG": str(self.cluster.kubeconfig)},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            yield iter(process.stdout.readline, "")
        finally:
            process.kill()
            process.wait()


def shell(script: str) -> list[str]:
    """Return the command that runs a script, its dollars kept from Kubernetes."""
    return ["sh", "-c", textwrap.dedent(script).replace("$", "$$")]


def pod_manifest(name: str, script: str = "", **changes: Any) -> dict[str, Any]:
    """Return a pod; `container` and `spec` change its container and spec, `metadata` its metadata."""
    container = {"name": "main", "image": "test", "command": shell(script)}
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 5,
        "containers": [container | changes.get("container", {})],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name} | changes.get("metadata", {}),
        "spec": spec | changes.get("spec", {}),
    }


def job_manifest(name: str, script: str, pod: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """Return a Job whose pods run a shell script."""
    template = pod_manifest(name, script, **(pod or {}))
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": {"metadata": template["metadata"], "spec": template["spec"]}, **spec},
    }


def eventually(holds: Callable[[], Any], what: str) -> Any:
    """Wait until something outside of Kubernetes holds, and return it."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := holds()):
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)
    return found


def runs(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the image `test`."""
    directory = tmp_path_factory.mktemp("image")
    (directory / "program.py").write_text(
        "import json, os, sys\nprint(json.dumps({'argv': sys.argv[1:], 'env': dict(os.environ), "
        "'cwd': os.getcwd(), 'python': sys.executable}))\n"
    )
    script = directory / "script"
    script.write_text("#!/usr/bin/env python3\nimport sys\nprint('by shebang', sys.executable)\n")
    script.chmod(0o755)
    return directory


@pytest.fixture(scope="session")
def cluster(image: Path) -> Iterator[Cluster]:
    """Start the cluster that most tests share."""
    images = {"test": LocalImage.of(image, sys.executable)}
    with Cluster.start(f"node-tests-{os.getpid()}", images=images) as started:
        yield started


@pytest.fixture(scope="session")
def instant_cluster() -> Iterator[Cluster]:
    """Start a cluster whose node finishes pods at once, beside the other one."""
    with Cluster.start(f"instant-tests-{os.getpid()}", node="instant") as started:
        yield started


def make_namespace(cluster: Cluster) -> Namespace:
    """Make a namespace in which pods can be created."""
    made = Namespace(cluster, f"test-{next(_numbers)}")
    cluster.kubectl("create", "namespace", made.name)
    made.until("serviceaccount/default", "create")
    return made


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[Namespace]:
    """Make a namespace for one test, and remove it with all pods."""
    made = make_namespace(cluster)
    yield made
    made.kubectl("delete", "pods,jobs,deployments", "--all", "--force", "--grace-period=0", "--wait=false")
    cluster.kubectl("delete", "namespace", made.name, "--wait=false")


@pytest.fixture
def instant(instant_cluster: Cluster) -> Namespace:
    """Make a namespace on the cluster that finishes pods at once."""
    return make_namespace(instant_cluster)


@pytest.fixture(params=["own view", "rewritten paths"])
def either_way(request: pytest.FixtureRequest, cluster: Cluster, namespace: Namespace) -> Iterator[Namespace]:
    """Run a test with mount namespaces, and without them as on a machine that has none."""
    if request.param == "own view":
        if "see their volumes" not in cluster.log_path("node").read_text():
            pytest.skip("this machine allows no mount namespaces")
        yield namespace
        return
    cluster.stop_component("node")
    with other_node(cluster, "--no-mounts"):
        yield namespace
    cluster.start_component("node")


@contextmanager
def other_node(cluster: Cluster, *flags: str) -> Iterator[None]:
    """Run a node like the cluster's, which must be stopped, with further flags."""
    folder = cluster.state_dir
    log = cluster.log_path("node")
    with log.open("a") as output:
        node = subprocess.Popen(
            [
                *(sys.executable, "-m", "devcluster.node", "--name", cluster.node_name),
                *("--kubeconfig", str(folder / "node.kubeconfig")),
                *("--port", str(cluster.ports.node)),
                *("--state-dir", str(folder / "node"), "--images", str(folder / "images.json")),
                *flags,
            ],
            cwd=Path(__file__).parents[2],
            stdout=output,
            stderr=output,
        )
    try:
        yield
    finally:
        node.terminate()
        node.wait(15)


# What a container gets


def test_a_command_gets_its_slot_from_annotations(namespace: Namespace) -> None:
    """Arguments arrive exactly, an empty annotation included; so do Job and pod succeed."""
    fields = {"RUN_TIME": "crontabber.dev/run-time", "LAST_SUCCESS": "crontabber.dev/last-success"}
    env = [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{key}']"}}}
        for name, key in fields.items()
    ]
    container = {
        "command": ["python", "program.py"],
        "args": [
            "--run-time=$(RUN_TIME)",
            "--last-success=$(LAST_SUCCESS)",
            "$$(RUN_TIME)",
            "$(NO)",
            "a b",
            "",
        ],
        "env": env,
    }
    annotations = {"crontabber.dev/run-time": "2026-11-24T08:00", "crontabber.dev/last-success": ""}
    pod = {"container": container, "metadata": {"annotations": annotations}}
    namespace.apply(job_manifest("slot", "", pod))
    namespace.until("job/slot", "condition=complete")
    printed = json.loads(namespace.kubectl("logs", "job/slot"))
    assert printed["argv"] == [
        "--run-time=2026-11-24T08:00",
        "--last-success=",
        "$(RUN_TIME)",
        "$(NO)",
        "a b",
        "",
    ]


def test_the_environment_is_clean_and_complete(
    namespace: Namespace, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the pod says, where the API server is, a PATH and a home, and nothing of this machine's."""
    monkeypatch.setenv("PIP_INDEX_URL", "leaked")
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "settings"},
            "data": {"LEVEL": "info", "dotted.key": "1"},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "keys"},
            "stringData": {"PASSWORD": "hunter2"},
        },
    )
    env = [
        {"name": "URL", "value": "postgres://:$(PASSWORD)@db/$(LEVEL)"},
        {"name": "ONE_KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "PASSWORD"}}},
        {
            "name": "ABSENT",
            "valueFrom": {"configMapKeyRef": {"name": "none", "key": "x", "optional": True}},
        },
        *(
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for name, path in {
                "POD": "metadata.name",
                "NAMESPACE": "metadata.namespace",
                "POD_UID": "metadata.uid",
                "NODE": "spec.nodeName",
                "ACCOUNT": "spec.serviceAccountName",
                "POD_IP": "status.podIP",
                "HOST_IP": "status.hostIP",
                "LABEL": "metadata.labels['app']",
            }.items()
        ),
        {
            "name": "MEMORY",
            "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}},
        },
    ]
    container = {
        "command": ["python", "program.py"],
        "env": env,
        "envFrom": [
            {"configMapRef": {"name": "settings"}},
            {"prefix": "P_", "secretRef": {"name": "keys"}},
            {"secretRef": {"name": "keys"}},
            {"secretRef": {"name": "none", "optional": True}},
        ],
        "resources": {"limits": {"memory": "256Mi"}},
    }
    namespace.pod("env", container=container, metadata={"labels": {"app": "web"}})
    pod = namespace.finished("env")
    assert pod["status"]["phase"] == "Succeeded"
    printed = json.loads(namespace.kubectl("logs", "env"))
    found = printed["env"]
    assert printed["cwd"] == str(image)
    assert printed["python"] == sys.executable
    assert found.pop("PATH").startswith(f"{Path(sys.executable).parent}:")
    assert pod["metadata"]["uid"] in found.pop("HOME")
    found.pop("LC_CTYPE", None)  # Python's own, where there is no locale
    api_server_port = str(namespace.cluster.ports.api_server)
    assert found == {
        "HOSTNAME": "env",
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": api_server_port,
        "KUBERNETES_SERVICE_PORT_HTTPS": api_server_port,
        "LEVEL": "info",
        "dotted.key": "1",
        "P_PASSWORD": "hunter2",
        "PASSWORD": "hunter2",
        "URL": "postgres://:hunter2@db/info",
        "ONE_KEY": "hunter2",
        "POD": "env",
        "NAMESPACE": namespace.name,
        "POD_UID": pod["metadata"]["uid"],
        "NODE": namespace.cluster.node_name,
        "ACCOUNT": "default",
        "POD_IP": "127.0.0.1",
        "HOST_IP": "127.0.0.1",
        "LABEL": "web",
        "MEMORY": "256",
    }


def test_python_is_the_images_however_it_is_called(namespace: Namespace) -> None:
    """As a command, from a shell, by a shebang."""
    tell = "-c 'import sys; print(sys.executable)'"
    namespace.pod("python", f"python {tell}; python3 {tell}; ./script")
    namespace.finished("python")
    found = {line.removeprefix("by shebang ") for line in namespace.kubectl("logs", "python").splitlines()}
    assert {Path(each).parent for each in found} == {Path(sys.executable).parent}


def test_volumes_and_the_termination_message(either_way: Namespace) -> None:
    """ConfigMap, Secret, downward API, emptyDir, single files: at the paths that the pod asks for."""
    namespace = either_way
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "settings"},
            "data": {"a.ini": "A\n", "b.ini": "B\n"},
        },
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"key": "K\n"}},
    )
    volumes = [
        {"name": "config", "configMap": {"name": "settings", "defaultMode": 0o440}},
        {"name": "some", "configMap": {"name": "settings", "items": [{"key": "b.ini", "path": "deep/b"}]}},
        {"name": "secret", "secret": {"secretName": "keys"}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "absent", "configMap": {"name": "none", "optional": True}},
        {
            "name": "all",
            "projected": {
                "sources": [
                    {"secret": {"name": "keys"}},
                    {
                        "downwardAPI": {
                            "items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]
                        }
                    },
                ]
            },
        },
    ]
    mounts = [
        {"name": "config", "mountPath": "/etc/devcluster-test/config"},
        {"name": "config", "mountPath": "/srv/devcluster-test/one.ini", "subPath": "a.ini"},
        {"name": "some", "mountPath": "/devcluster-test/some"},
        {"name": "secret", "mountPath": "/etc/devcluster-test/secret", "readOnly": True},
        {"name": "scratch", "mountPath": "/devcluster-test/scratch", "subPath": "own"},
        {"name": "absent", "mountPath": "/devcluster-test/absent"},
        {"name": "all", "mountPath": "/devcluster-test/all"},
    ]
    script = """
        set -e
        cat /etc/devcluster-test/config/a.ini /srv/devcluster-test/one.ini /devcluster-test/some/deep/b
        cat /etc/devcluster-test/secret/key $WHERE/key
        cat /devcluster-test/all/name; echo
        stat -c %a /etc/devcluster-test/config/a.ini
        ls /devcluster-test/absent | wc -l
        cat /devcluster-test/scratch/from-init
        pwd
        echo 'last words' > /dev/termination-log
    """
    init = {
        "name": "init",
        "image": "test",
        "command": ["sh", "-c", "echo init > /devcluster-test/scratch/from-init"],
        "volumeMounts": mounts,
    }
    container = {
        "volumeMounts": mounts,
        "env": [{"name": "WHERE", "value": "/devcluster-test/all"}],
        "workingDir": "/devcluster-test/some/deep",
    }
    namespace.pod("volumes", script, container=container, spec={"volumes": volumes, "initContainers": [init]})
    status = namespace.finished("volumes")["status"]
    output = namespace.kubectl("logs", "volumes").splitlines()
    assert output[:-1] == ["A", "A", "B", "K", "K", "volumes", "440", "0", "init"]
    assert output[-1].endswith("/deep")
    assert status["containerStatuses"][0]["state"]["terminated"]["message"] == "last words\n"
    assert not Path("/devcluster-test").exists()
    assert not Path("/etc/devcluster-test").exists()


def test_an_images_own_settings_count(either_way: Namespace, image: Path) -> None:
    """Its directory is where its containers look for it; its entrypoint runs where no command is given."""
    namespace = either_way
    images = namespace.cluster.images
    site = LocalImage.of(
        image,
        sys.executable,
        working_directory="/devcluster-test/app",
        environment={"FROM": "image", "BOTH": "image"},
        entrypoint=("python", "program.py"),
        command=("default",),
    )
    namespace.cluster.set_images({**images, "site:2": site})
    try:
        own = {"image": "site:2", "command": None, "env": [{"name": "BOTH", "value": "pod"}]}
        namespace.pod("defaults", container=own)
        namespace.pod("args", container={**own, "args": ["--x"]})
        namespace.pod("path", "cat /devcluster-test/app/program.py | wc -l", container={"image": "site:2"})
        for name in ("defaults", "args", "path"):
            assert namespace.finished(name)["status"]["phase"] == "Succeeded", namespace.kubectl("logs", name)
    finally:
        namespace.cluster.set_images(images)
    printed = json.loads(namespace.kubectl("logs", "defaults"))
    assert printed["argv"] == ["default"]
    assert (printed["env"]["FROM"], printed["env"]["BOTH"]) == ("image", "pod")
    assert printed["cwd"] in ("/devcluster-test/app", str(image))
    assert json.loads(namespace.kubectl("logs", "args"))["argv"] == ["--x"]
    assert namespace.kubectl("logs", "path").strip() == "2"
    assert not Path("/devcluster-test").exists()


def test_a_program_in_a_pod_speaks_with_the_api_server(namespace: Namespace) -> None:
    """As the operator does in its own pod: token, authority and address are where clients look for them."""
    if "see their volumes" not in namespace.cluster.log_path("node").read_text():
        pytest.skip("this machine allows no mount namespaces")
    namespace.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader"}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "reader"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "reader"}],
        },
    )
    script = f"""
        from kubernetes import client, config
        config.load_incluster_config()
        print([pod.metadata.name for pod in client.CoreV1Api().list_namespaced_pod("{namespace.name}").items])
    """
    container = {"command": ["python", "-c", textwrap.dedent(script)]}
    namespace.pod("client", container=container, spec={"serviceAccountName": "reader"})
    assert namespace.finished("client")["status"]["phase"] == "Succeeded", namespace.kubectl("logs", "client")
    assert namespace.kubectl("logs", "client") == "['client']\n"


# What is missing


def test_a_missing_configmap_or_key_holds_the_container_until_it_is_there(namespace: Namespace) -> None:
    """It waits as CreateContainerConfigError, with the kubelet's message."""
    env = [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "x"}}}]
    namespace.pod("waits", 'echo "x is $X"', container={"env": env})
    reason = "{.status.containerStatuses[0].state.waiting.reason}"
    message = "{.status.containerStatuses[0].state.waiting.message}"
    namespace.until("pod/waits", f"{reason}=CreateContainerConfigError")
    namespace.until("pod/waits", f'{message}=configmaps "late" not found')
    namespace.kubectl("create", "configmap", "late", "--from-literal=y=1")
    namespace.until("pod/waits", f"{message}=couldn't find key x in ConfigMap {namespace.name}/late")
    namespace.kubectl("patch", "configmap", "late", "--patch", '{"data": {"x": "there"}}')
    assert namespace.finished("waits")["status"]["phase"] == "Succeeded"
    assert namespace.kubectl("logs", "waits") == "x is there\n"


def test_a_missing_volume_source_is_told_and_healed(namespace: Namespace) -> None:
    """The pod stays ContainerCreating, with a FailedMount event."""
    volumes = [{"name": "v", "secret": {"secretName": "late"}}]
    container = {"volumeMounts": [{"name": "v", "mountPath": "/devcluster-test"}]}
    namespace.pod("waits", "cat /devcluster-test/key", container=container, spec={"volumes": volumes})
    namespace.until("pod/waits", "{.status.containerStatuses[0].state.waiting.reason}=ContainerCreating")
    told = ("FailedMount", 'MountVolume.SetUp failed for volume "v" : secrets "late" not found')
    eventually(lambda: told in namespace.events("waits"), "FailedMount")
    namespace.kubectl("create", "secret", "generic", "late", "--from-literal=key=there")
    assert namespace.finished("waits")["status"]["phase"] == "Succeeded"
    assert namespace.kubectl("logs", "waits") == "there"


def test_an_unknown_image_fails_to_be_pulled_until_it_is_mapped(namespace: Namespace, image: Path) -> None:
    """ErrImagePull, then ImagePullBackOff; `kubectl logs` says so; mapping the image heals it."""
    namespace.pod("pull", "echo pulled", container={"image": "nowhere/site:1"})
    reason = "{.status.containerStatuses[0].state.waiting.reason}"
    namespace.until("pod/pull", f"{reason}=ErrImagePull")
    namespace.until("pod/pull", f"{reason}=ImagePullBackOff")
    assert namespace.get("pod", "pull")["status"]["phase"] == "Pending"
    with pytest.raises(ClusterError, match="is waiting to start: trying and failing to pull image"):
        namespace.kubectl("logs", "pull")
    eventually(
        lambda: ("BackOff", 'Back-off pulling image "nowhere/site:1"') in namespace.events("pull"), "BackOff"
    )
    images = namespace.cluster.images
    namespace.cluster.set_images({**images, "nowhere/site": LocalImage.of(image, sys.executable)})
    try:
        assert namespace.finished("pull")["status"]["phase"] == "Succeeded"
    finally:
        namespace.cluster.set_images(images)
    assert namespace.kubectl("logs", "pull") == "pulled\n"


# How a container ends


def test_every_end_has_its_status(namespace: Namespace) -> None:
    """Exit codes, signals, out of memory, and what can't be started; all in one pod, which failed."""
    memory_hog = "python -c 'x = bytearray(200_000_000); import time; time.sleep(30)'"
    containers = {
        "good": ["true"],
        "bad": ["sh", "-c", "exit 3"],
        "killed": shell("kill -9 $$"),
        "term": shell("kill -TERM $$"),
        "hog": ["sh", "-c", memory_hog],
        "nothing": ["no-such-program"],
        "nowhere": ["true"],
    }
    spec = {
        "containers": [
            {"name": name, "image": "test", "command": command}
            | ({"resources": {"limits": {"memory": "64Mi"}}} if name == "hog" else {})
            | ({"workingDir": "/no/such"} if name == "nowhere" else {})
            for name, command in containers.items()
        ]
    }
    namespace.pod("ends", spec=spec)
    pod = namespace.finished("ends")
    assert pod["status"]["phase"] == "Failed"
    ends = {each["name"]: each["state"]["terminated"] for each in pod["status"]["containerStatuses"]}
    assert {name: (end["exitCode"], end["reason"]) for name, end in ends.items()} == {
        "good": (0, "Completed"),
        "bad": (3, "Error"),
        "killed": (137, "Error"),
        "term": (143, "Error"),
        "hog": (137, "OOMKilled"),
        "nothing": (128, "StartError"),
        "nowhere": (128, "StartError"),
    }
    assert 'exec: "no-such-program": executable file not found in $PATH' in ends["nothing"]["message"]
    assert 'chdir to cwd ("/no/such")' in ends["nowhere"]["message"]
    assert {each["type"]: each["status"] for each in pod["status"]["conditions"]} == {
        "PodScheduled": "True",
        "Initialized": "True",
        "ContainersReady": "False",
        "Ready": "False",
    }


def test_termination_messages(either_way: Namespace) -> None:
    """From the file, of a long one the end; from the output only after an error, and only where asked for."""
    fallback = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    scripts = {
        "file": ("echo -n 'from the file' > /dev/termination-log; echo output; exit 1", fallback),
        "own-path": (
            "echo -n there > /tmp/devcluster-test/end",
            {"terminationMessagePath": "/tmp/devcluster-test/end"},
        ),
        "long": (
            "head -c 5000 /dev/zero | tr '\\0' x > /dev/termination-log; echo -n end >> /dev/termination-log",
            {},
        ),
        "output": ("seq 1 200; exit 1", fallback),
        "good": ("echo output", fallback),
        "plain": ("echo output; exit 1", {}),
    }
    for name, (script, more) in scripts.items():
        either_way.pod(name, script, container=more)
    ends = {
        name: either_way.finished(name)["status"]["containerStatuses"][0]["state"]["terminated"]
        for name in scripts
    }
    messages = {name: end.get("message") for name, end in ends.items()}
    assert messages.pop("long") == "x" * (4096 - 3) + "end"
    assert messages.pop("output") == "".join(f"{at}\n" for at in range(121, 201))
    assert messages == {"file": "from the file", "own-path": "there", "good": None, "plain": None}
    assert not Path("/tmp/devcluster-test").exists()


def test_a_pod_past_its_deadline_fails(namespace: Namespace) -> None:
    """It is asked to end first; the pod says why, whatever its exit code."""
    script = "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    namespace.pod("late", script, spec={"activeDeadlineSeconds": 5})  # by then it has set its trap
    status = namespace.finished("late")["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")
    assert status["message"] == "Pod was active on the node longer than the specified deadline"
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    assert namespace.kubectl("logs", "late").endswith("asked\n")


def test_a_deadline_also_ends_a_pod_that_cannot_start(namespace: Namespace) -> None:
    """An image that is never found does not hold a Job for ever."""
    namespace.pod("late", "", container={"image": "nowhere"}, spec={"activeDeadlineSeconds": 1})
    status = namespace.finished("late")["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")


def test_on_failure_a_container_is_started_again(namespace: Namespace) -> None:
    """At once the first time; counted; `kubectl logs --previous` has the run before."""
    script = """
        n=$(cat /devcluster-test/n 2>/dev/null || echo 0)
        echo run $n
        echo $((n + 1)) > /devcluster-test/n
        test $n = 1
    """
    namespace.pod(
        "again",
        script,
        container={"volumeMounts": [{"name": "v", "mountPath": "/devcluster-test"}]},
        spec={"restartPolicy": "OnFailure", "volumes": [{"name": "v", "emptyDir": {}}]},
    )
    pod = namespace.finished("again")
    assert pod["status"]["phase"] == "Succeeded"
    container = pod["status"]["containerStatuses"][0]
    assert container["restartCount"] == 1
    assert container["lastState"]["terminated"]["exitCode"] == 1
    assert namespace.kubectl("logs", "again") == "run 1\n"
    assert namespace.kubectl("logs", "again", "--previous") == "run 0\n"


def test_a_crashing_container_waits_longer_each_time(namespace: Namespace) -> None:
    """CrashLoopBackOff, with its last end beside; the pod still counts as running."""
    namespace.pod("crash", "echo crash; exit 5", spec={"restartPolicy": "Always"})
    namespace.until("pod/crash", "{.status.containerStatuses[0].state.waiting.reason}=CrashLoopBackOff")
    container = namespace.container("crash")
    assert container["restartCount"] == 1
    assert container["lastState"]["terminated"]["exitCode"] == 5
    assert container["state"]["waiting"]["message"].startswith(
        "back-off 10s restarting failed container=main pod=crash_"
    )
    assert namespace.get("pod", "crash")["status"]["phase"] == "Running"
    assert namespace.kubectl("logs", "crash") == "crash\n"


# Containers of one pod


def test_init_containers_and_sidecars_keep_their_order(namespace: Namespace) -> None:
    """Sidecars run beside the rest, do not hold completion, and end last, in reverse."""
    log = "/devcluster-test/log"
    mounts = [{"name": "v", "mountPath": "/devcluster-test"}]

    def sidecar(name: str) -> dict[str, Any]:
        script = f"""
            trap 'echo {name} ends >> {log}; exit 0' TERM
            echo {name} >> {log}
            touch /devcluster-test/{name}
            while :; do sleep 0.05; done
        """
        started = {"exec": {"command": ["test", "-e", f"/devcluster-test/{name}"]}, "periodSeconds": 1}
        return {
            "name": name,
            "image": "test",
            "restartPolicy": "Always",
            "command": shell(script),
            "startupProbe": started,
            "volumeMounts": mounts,
        }

    def init(name: str) -> dict[str, Any]:
        script = f"echo {name} >> {log}"
        return {"name": name, "image": "test", "command": shell(script), "volumeMounts": mounts}

    host = namespace.cluster.state_dir / f"shared-{namespace.name}"
    host.mkdir()
    pod = {
        "container": {"volumeMounts": mounts},
        "spec": {
            "initContainers": [init("first"), sidecar("side1"), init("second"), sidecar("side2")],
            "volumes": [{"name": "v", "hostPath": {"path": str(host)}}],
        },
    }
    namespace.apply(job_manifest("order", f"echo main >> {log}", pod))
    namespace.until("job/order", "condition=complete")
    assert (host / "log").read_text().splitlines() == [
        "first",
        "side1",
        "second",
        "side2",
        "main",
        "side2 ends",
        "side1 ends",
    ]


def test_a_failed_init_container_fails_the_pod(namespace: Namespace) -> None:
    """The main container never runs."""
    init = {"name": "init", "image": "test", "command": ["sh", "-c", "exit 4"]}
    namespace.pod("init", "echo main", spec={"initContainers": [init]})
    status = namespace.finished("init")["status"]
    assert status["phase"] == "Failed"
    assert status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 4
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}


# Deletion


def test_a_deleted_pod_is_asked_to_end_and_then_gone(namespace: Namespace) -> None:
    """Its process gets SIGTERM and the time to finish; its files go with it."""
    ends = namespace.cluster.state_dir / f"ends-{namespace.name}"
    script = f"trap 'sleep 0.5; echo $$ > {ends}; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    namespace.pod("polite", script)
    eventually(lambda: namespace.printed("polite") == "ready\n", "its trap is set")
    files = namespace.cluster.state_dir / "node" / "pods"
    uid = namespace.get("pod", "polite")["metadata"]["uid"]
    assert list(files.glob(f"*_{uid}"))
    namespace.kubectl("delete", "pod", "polite", "--wait=true")
    pid = int(ends.read_text())
    assert not runs(pid)
    eventually(lambda: not list(files.glob(f"*_{uid}")), "the pod's files are removed")
    told = ("Killing", "Stopping container main")
    eventually(lambda: told in namespace.events("polite"), "it is told")


def test_a_pod_that_ignores_sigterm_is_killed_after_its_grace(namespace: Namespace) -> None:
    """All of its processes, not only the first."""
    pids = namespace.cluster.state_dir / f"pids-{namespace.name}"
    script = f"trap '' TERM; setsid sleep 300 & echo $! $$ > {pids}; echo ready; while :; do sleep 0.05; done"
    namespace.pod("rude", script)
    found = eventually(lambda: pids.exists() and pids.read_text().split(), "the script runs")
    namespace.kubectl("delete", "pod", "rude", "--grace-period=1", "--wait=true")
    assert not any(runs(int(pid)) for pid in found)


def test_a_pod_deleted_by_force_leaves_no_process(namespace: Namespace) -> None:
    """Though the API forgot it at once."""
    pids = namespace.cluster.state_dir / f"pids-{namespace.name}"
    namespace.pod("forced", f"trap '' TERM; echo $$ > {pids}; while :; do sleep 0.05; done")
    pid = int(eventually(lambda: pids.exists() and pids.read_text(), "the script runs"))
    namespace.kubectl("delete", "pod", "forced", "--force", "--grace-period=0")
    eventually(lambda: not runs(pid), "the process is gone")


def test_a_deleted_pod_of_a_job_is_replaced(namespace: Namespace) -> None:
    """The Job's finalizer on it is respected: the pod counts as failed first."""
    namespace.apply(job_manifest("job", "sleep 100", backoffLimit=3))
    namespace.until("pod", "condition=Ready", "-l", "job-name=job")
    (first,) = namespace.get("pods", "-l", "job-name=job")["items"]
    namespace.kubectl("delete", "pod", first["metadata"]["name"], "--grace-period=1", "--wait=true")
    namespace.until("job/job", "{.status.failed}=1")

    def second() -> bool:
        names = {pod["metadata"]["name"] for pod in namespace.get("pods", "-l", "job-name=job")["items"]}
        return bool(names - {first["metadata"]["name"]})

    eventually(second, "another pod")


# Logs


def test_logs_are_followed_line_by_line(namespace: Namespace) -> None:
    """Each line arrives while the container still waits for us to have seen it."""
    signals = namespace.cluster.state_dir / f"go-{namespace.name}"
    signals.mkdir()
    script = (
        f"for i in 1 2 3; do echo line $i; while [ ! -e {signals}/$i ]; do sleep 0.05; done; done; printf end"
    )
    namespace.pod("talks", script)
    namespace.until("pod/talks", "condition=Ready")
    with namespace.follow("logs", "--follow", "talks") as lines:
        for at in (1, 2, 3):
            assert next(lines) == f"line {at}\n"
            (signals / str(at)).touch()
        assert list(lines) == ["end"]
    assert namespace.kubectl("logs", "talks") == "line 1\nline 2\nline 3\nend"


def test_logs_can_be_cut(namespace: Namespace) -> None:
    """--tail, --limit-bytes, --timestamps, --since, --container."""
    quiet = {"name": "quiet", "image": "test", "command": ["true"]}
    main = {"name": "main", "image": "test", "command": ["sh", "-c", "seq 1 5; echo error >&2"]}
    namespace.pod("talks", spec={"containers": [main, quiet]})
    namespace.finished("talks")

    def logs(*options: str) -> str:
        return namespace.kubectl("logs", "talks", "--container=main", *options)

    assert logs() == "1\n2\n3\n4\n5\nerror\n"
    assert logs("--tail=2") == "5\nerror\n"
    assert logs("--limit-bytes=3") == "1\n2"
    assert logs("--since=1h") == logs()
    assert logs("--since-time=2999-01-01T00:00:00Z") == ""
    assert namespace.kubectl("logs", "talks", "--container=quiet") == ""
    first, *_ = logs("--timestamps").splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z 1", first)
    with pytest.raises(ClusterError, match="previous terminated container"):
        logs("--previous")


def test_ten_megabytes_of_logs(namespace: Namespace) -> None:
    """Not a line is lost."""
    namespace.pod("loud", "seq -f '%099.0f' 1 100000")
    namespace.finished("loud")
    lines = namespace.kubectl("logs", "loud").splitlines()
    assert [int(line) for line in lines] == list(range(1, 100_001))


# Jobs, Deployments, scheduling


def test_a_job_gives_up_after_its_retries(namespace: Namespace) -> None:
    """Failed pods are counted."""
    namespace.apply(job_manifest("job", "exit 1", backoffLimit=1))
    namespace.until("job/job", "condition=failed")
    job = namespace.get("job", "job")
    assert job["status"]["failed"] == 2
    assert {each["type"]: each.get("reason") for each in job["status"]["conditions"]}[
        "Failed"
    ] == "BackoffLimitExceeded"


def test_a_pod_failure_policy_sees_exit_codes_and_disruptions(namespace: Namespace) -> None:
    """An eviction is not counted; one exit code fails the Job at once."""
    policy = {
        "rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
        ]
    }
    go = namespace.cluster.state_dir / f"go-{namespace.name}"
    script = f"while [ ! -e {go} ]; do sleep 0.05; done; exit 42"
    namespace.apply(job_manifest("job", script, backoffLimit=6, podFailurePolicy=policy))
    namespace.until("pod", "condition=Ready", "-l", "job-name=job")
    (pod,) = namespace.get("pods", "-l", "job-name=job")["items"]
    name = pod["metadata"]["name"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace.name},
    }
    path = f"/api/v1/namespaces/{namespace.name}/pods/{name}/eviction"
    namespace.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    namespace.until(f"pod/{name}", "delete")
    go.touch()
    namespace.until("job/job", "condition=failed")
    job = namespace.get("job", "job")
    assert job["status"]["failed"] == 1
    failed = next(each for each in job["status"]["conditions"] if each["type"] == "Failed")
    assert failed["reason"] == "PodFailurePolicy"
    assert "exit code 42" in failed["message"]


@pytest.mark.parametrize("kind", ["httpGet", "tcpSocket", "exec"])
def test_a_rollout_is_complete_when_its_pods_are_ready(namespace: Namespace, kind: str) -> None:
    """Not before: the readiness probe is asked."""
    go = namespace.cluster.state_dir / f"go-{namespace.name}"
    port = free_port()
    probes: dict[str, dict[str, Any]] = {
        "httpGet": {"httpGet": {"path": "/", "port": "web"}},
        "tcpSocket": {"tcpSocket": {"port": port}},
        "exec": {"exec": {"command": ["sh", "-c", "test -e $GO"]}},
    }
    script = f"while [ ! -e {go} ]; do sleep 0.05; done; exec python -m http.server {port} --bind 127.0.0.1"
    container = {
        "env": [{"name": "GO", "value": str(go)}],
        "ports": [{"name": "web", "containerPort": port}],
        "readinessProbe": {**probes[kind], "periodSeconds": 1},
    }
    template = pod_manifest("web", script, container=container, spec={"restartPolicy": "Always"})
    namespace.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": template["spec"]},
            },
        }
    )
    namespace.until("pod", "{.status.phase}=Running", "-l", "app=web")
    eventually(
        lambda: any(
            reason == "Unhealthy"
            for pod in namespace.get("pods", "-l", "app=web")["items"]
            for reason, _ in namespace.events(pod["metadata"]["name"])
        ),
        "a failed probe is told",
    )
    assert "readyReplicas" not in namespace.get("deployment", "web")["status"]
    go.touch()
    namespace.kubectl("rollout", "status", "deployment/web", f"--timeout={WAIT_SECONDS}s")


def test_an_unhealthy_container_is_restarted(namespace: Namespace) -> None:
    """Its liveness probe fails once it removed a file."""
    file = namespace.cluster.state_dir / f"alive-{namespace.name}"
    script = f"touch {file}; sleep 1; rm {file}; while :; do sleep 0.05; done"
    probe = {
        "exec": {"command": ["test", "-e", str(file)]},
        "periodSeconds": 1,
        "failureThreshold": 1,
        "initialDelaySeconds": 1,
    }
    namespace.pod(
        "sick",
        script,
        container={"livenessProbe": probe},
        spec={"restartPolicy": "Always", "terminationGracePeriodSeconds": 1},
    )
    namespace.until("pod/sick", "{.status.containerStatuses[0].restartCount}=1")
    eventually(
        lambda: any(
            reason == "Killing" and "failed liveness probe" in text
            for reason, text in namespace.events("sick")
        ),
        "it is told",
    )


def test_pods_that_must_not_run_here_wait(namespace: Namespace) -> None:
    """For their gates, for a node that they select, for a node that is not cordoned."""
    node = namespace.cluster.node_name
    namespace.pod("gated", "true", spec={"schedulingGates": [{"name": "example/gate"}]})
    namespace.pod("picky", "true", spec={"nodeSelector": {"disk": "ssd"}})
    namespace.until("pod/picky", "{.status.conditions[0].reason}=Unschedulable")
    namespace.until("pod/gated", "{.status.conditions[0].reason}=SchedulingGated")
    namespace.kubectl(
        "patch",
        "pod",
        "gated",
        "--type=json",
        "--patch",
        '[{"op": "remove", "path": "/spec/schedulingGates"}]',
    )
    assert namespace.finished("gated")["status"]["phase"] == "Succeeded"
    namespace.kubectl("label", "node", node, "disk=ssd")
    try:
        assert namespace.finished("picky")["status"]["phase"] == "Succeeded"
    finally:
        namespace.kubectl("label", "node", node, "disk-")
    namespace.kubectl("cordon", node)
    try:
        namespace.pod("cordoned", "true")
        namespace.until("pod/cordoned", "{.status.conditions[0].reason}=Unschedulable")
    finally:
        namespace.kubectl("uncordon", node)
    assert namespace.finished("cordoned")["status"]["phase"] == "Succeeded"


def test_the_node_is_ready_and_keeps_its_lease(namespace: Namespace) -> None:
    """As the node lifecycle controller wants it; deleted, it comes back."""
    node = namespace.cluster.node_name
    namespace.until(f"node/{node}", "condition=Ready")
    namespace.until(f"lease/{node}", "create", "--namespace=kube-node-lease")
    namespace.kubectl("delete", "node", node)
    namespace.until(f"node/{node}", "create")
    namespace.until(f"node/{node}", "condition=Ready")
    namespace.pod("after", "true")
    assert namespace.finished("after")["status"]["phase"] == "Succeeded"


def test_many_pods_at_once(namespace: Namespace) -> None:
    """Sixty processes side by side; every one of them is accounted for."""
    go = namespace.cluster.state_dir / f"go-{namespace.name}"
    script = f"while [ ! -e {go} ]; do sleep 0.5; done; echo done"
    namespace.apply(job_manifest("many", script, completions=60, parallelism=60))

    def all_run() -> bool:
        pods = namespace.get("pods", "-l", "job-name=many")["items"]
        return [pod["status"]["phase"] for pod in pods] == ["Running"] * 60

    eventually(all_run, "sixty pods run")
    go.touch()
    namespace.until("job/many", "condition=complete")
    assert namespace.get("job", "many")["status"]["succeeded"] == 60


# Crashes


def test_a_killed_node_leaves_no_process_and_the_next_one_accounts_for_all(namespace: Namespace) -> None:
    """Jobs' pods failed, as with a machine that lost its power; others are started again; old logs stay."""
    cluster = namespace.cluster
    pids = cluster.state_dir / f"pids-{namespace.name}"
    script = f"echo $$ >> {pids}; setsid sleep 300 & echo $! >> {pids}; echo begun; wait"
    namespace.pod("ended", "echo from before")
    namespace.finished("ended")
    namespace.pod("never", script)
    namespace.pod("always", f"echo $$ >> {pids}; echo begun; sleep 300", spec={"restartPolicy": "Always"})
    namespace.until("pod/never", "condition=Ready")
    namespace.until("pod/always", "condition=Ready")
    found = eventually(lambda: len(lines := pids.read_text().split()) == 3 and lines, "three processes")
    for name in ("never", "always"):
        eventually(lambda name=name: namespace.printed(name) == "begun\n", f"{name} has begun")  # type: ignore[misc]
    cluster.kill("node")
    eventually(lambda: not any(runs(int(pid)) for pid in found), "all processes are gone")
    cluster.start_component("node")
    status = namespace.finished("never")["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "NodeRestarted")
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137
    assert namespace.kubectl("logs", "never") == "begun\n"
    namespace.until("pod/always", "{.status.containerStatuses[0].restartCount}=1")
    namespace.until("pod/always", "condition=Ready")
    assert namespace.container("always")["lastState"]["terminated"]["exitCode"] == 137
    assert namespace.kubectl("logs", "always", "--previous") == "begun\n"
    assert namespace.get("pod", "ended")["status"]["phase"] == "Succeeded"
    assert namespace.kubectl("logs", "ended") == "from before\n"


def test_a_stopped_node_ends_its_containers(namespace: Namespace) -> None:
    """In order or not, no process is left."""
    pids = namespace.cluster.state_dir / f"pids-{namespace.name}"
    namespace.pod("runs", f"trap '' TERM; setsid sleep 300 & echo $$ $! >> {pids}; wait")
    found = eventually(lambda: pids.exists() and pids.read_text().split(), "the script runs")
    namespace.cluster.stop_component("node")
    try:
        assert not any(runs(int(pid)) for pid in found)
    finally:
        namespace.cluster.start_component("node")
    assert namespace.finished("runs")["status"]["reason"] == "NodeRestarted"


def test_pods_outlast_the_api_server(namespace: Namespace) -> None:
    """What ends while it is away is told when it is back; nothing is run twice."""
    cluster = namespace.cluster
    go, pids = cluster.state_dir / f"go-{namespace.name}", cluster.state_dir / f"pids-{namespace.name}"
    namespace.pod("runs", f"echo $$ >> {pids}; while [ ! -e {go} ]; do sleep 0.05; done; echo done; exit 6")
    namespace.until("pod/runs", "condition=Ready")
    pid = int(eventually(lambda: pids.exists() and pids.read_text(), "the script runs"))
    cluster.kill("kube-apiserver")
    go.touch()
    eventually(lambda: not runs(pid), "the container ended")
    cluster.start_component("kube-apiserver")
    status = namespace.finished("runs")["status"]
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 6
    assert pids.read_text() == f"{pid}\n"
    namespace.pod("after", "true")
    assert namespace.finished("after")["status"]["phase"] == "Succeeded"


# The node that finishes pods at once


def test_instant_pods_end_as_annotated(instant: Namespace) -> None:
    """Without any image or process."""
    for name, result in {"good": "", "bad": "fail", "code": "exit=7", "oom": "oom", "hangs": "hang"}.items():
        annotations = {"devcluster/result": result}
        instant.pod(name, "", container={"image": "any"}, metadata={"annotations": annotations})
    ends = {
        name: instant.finished(name)["status"]["containerStatuses"][0]["state"]["terminated"]
        for name in ("good", "bad", "code", "oom")
    }
    assert {name: (end["exitCode"], end["reason"]) for name, end in ends.items()} == {
        "good": (0, "Completed"),
        "bad": (1, "Error"),
        "code": (7, "Error"),
        "oom": (137, "OOMKilled"),
    }
    instant.until("pod/hangs", "condition=Ready")
    instant.kubectl("delete", "pod", "hangs", "--grace-period=1", "--wait=true")


def test_instant_jobs_are_finished_by_the_dozen(instant: Namespace) -> None:
    """Each with its pod."""
    jobs = [job_manifest(f"job-{at}", "", {"container": {"image": "any"}}) for at in range(50)]
    instant.apply(*jobs)
    instant.until("job", "condition=complete", "--all")
    assert len(instant.get("pods", "--field-selector=status.phase=Succeeded")["items"]) == 50
