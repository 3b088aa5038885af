"""What devcluster promises about its processes: what it starts, it tells of, and nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from devcluster import AlreadyUpError, Cluster, ClusterError, LocalImage, NoClusterError
from devcluster.control import ControlError
from devcluster.images import ImageError, parse
from devcluster.paths import IMPORT_ROOT
from devcluster.registry import names, remove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(240)

_ENDS_WITHIN_SECONDS = 30


@pytest.fixture(autouse=True, scope="module")
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep these clusters apart from the user's, and take down what a failed test has left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield
        for name in names():
            remove(name)


@pytest.fixture(scope="module")
def shared(_own_state: None) -> Iterator[Cluster]:
    """Return a cluster without a node, for tests that leave all its components running."""
    with Cluster.start("shared", node="none", audit=True) as cluster:
        yield cluster


def _eventually(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _ENDS_WITHIN_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)


def _guardian(cluster: Cluster) -> psutil.Process:
    description = json.loads((cluster.state_dir / "cluster.json").read_text())
    return psutil.Process(description["guardian"]["pid"])


def _processes(cluster: Cluster) -> list[psutil.Process]:
    """Return every process of the cluster, those of its pods included."""
    components = {each.pid for each in cluster.components()}
    guardian = _guardian(cluster)
    found = [guardian, *guardian.children(recursive=True)]
    assert components <= {process.pid for process in found}
    return found


def _assert_all_end(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=_ENDS_WITHIN_SECONDS)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def _command_line(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "devcluster", *arguments],
        cwd=IMPORT_ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _start_in_own_process(code: str) -> subprocess.Popen[str]:
    """Run Python code that prints a line once its cluster is up, and return when it did."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=IMPORT_ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() != "", "it ended before its cluster was up"
    return process


def _pid(cluster: Cluster, component: str) -> int:
    return {each.name: each.pid for each in cluster.components()}[component]


def _state(cluster: Cluster, component: str) -> str:
    return {each.name: each.state for each in cluster.components()}[component]


# Starting and ending


def test_clusters_side_by_side_share_nothing(shared: Cluster) -> None:
    """A second cluster has its own ports, data, context and processes, and its end leaves the first alone."""
    with Cluster.start("second", node="none") as second:
        assert second.ports.control != shared.ports.control
        assert second.context == "devcluster-second"
        second.kubectl("create", "namespace", "only-in-second")
        assert "only-in-second" not in shared.kubectl("get", "namespaces")
        assert {each.pid for each in second.components()}.isdisjoint(each.pid for each in shared.components())
    assert shared.kubectl("get", "--raw", "/readyz") == "ok"


def test_stop_ends_every_process_and_removes_the_state() -> None:
    """After `stop` no process of the cluster and no file of it is left."""
    cluster = Cluster.start("stopped", node="none")
    processes = _processes(cluster)
    cluster.stop()
    _assert_all_end(processes)
    assert not cluster.state_dir.exists()


def test_stop_twice_spares_a_later_cluster_of_the_same_name() -> None:
    """A stale object can't take down what was started after it."""
    first = Cluster.start("again", node="none")
    first.stop()
    with Cluster.start("again", node="none") as second:
        first.stop()
        assert second.kubectl("get", "--raw", "/readyz") == "ok"


def test_down_ends_what_pods_have_started(tmp_path: Path) -> None:
    """Also a process that a container put into a session of its own, and that ignores SIGTERM, ends."""
    code = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    open('stray', 'w').write(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    cluster = Cluster.start("pods", images={"app": LocalImage.of(tmp_path)}, keep=True)
    try:
        cluster.kubectl(
            "run", "stray", "--image=app", "--restart=Never", "--command", "--", "python", "-c", code
        )
        stray_file = tmp_path / "stray"
        _eventually(lambda: stray_file.exists() and stray_file.read_text() != "", "the container has started")
        stray = psutil.Process(int(stray_file.read_text()))
        processes = [*_processes(cluster), stray]
    finally:
        result = _command_line("down", "--name", "pods")
    assert result.returncode == 0, result.stderr
    _assert_all_end(processes)
    assert not cluster.state_dir.exists()


def test_job_runs_on_a_fresh_cluster(tmp_path: Path) -> None:
    """A Job that is created as soon as `start` returns runs, and its output is there by `kubectl logs`."""
    with Cluster.start("jobs", images={"app": tmp_path}) as cluster:
        cluster.kubectl("create", "job", "hello", "--image=app", "--", "python", "-c", "print('hello')")
        cluster.kubectl("wait", "--for=condition=complete", "job/hello", "--timeout=60s", timeout_seconds=90)
        assert cluster.kubectl("logs", "job/hello") == "hello\n"


def test_up_in_the_background_outlives_the_command() -> None:
    """`up` returns; the cluster is then found by its name, by `status`, `list` and `kubectl`."""
    try:
        up = _command_line("up", "--name", "kept", "--node", "none")
        assert up.returncode == 0, up.stderr
        cluster = Cluster.attach("kept")
        assert f"export KUBECONFIG={cluster.kubeconfig}" in up.stdout
        assert _command_line("status", "--name", "kept").returncode == 0
        assert "kept" in _command_line("list").stdout
        assert _command_line("kubeconfig", "--name", "kept").stdout == f"{cluster.kubeconfig}\n"
        kubectl = ("kubectl", "--name", "kept", "--namespace", "default", "get")
        assert "kube-root-ca.crt" in _command_line(*kubectl, "configmaps").stdout
        assert "serving" in _command_line("logs", "--name", "kept", "kube-apiserver").stdout.lower()
    finally:
        _command_line("down", "--name", "kept")
    assert _command_line("status", "--name", "kept").returncode == 3


def test_up_again_is_a_no_op_that_takes_new_images(tmp_path: Path) -> None:
    """A second `up` changes nothing but the images, and refuses what it can't change."""
    try:
        arguments = ("up", "--name", "twice", "--node", "none")
        assert _command_line(*arguments, "--image", f"one={tmp_path}").returncode == 0
        cluster = Cluster.attach("twice")
        before = cluster.components()
        again = _command_line(*arguments, "--image", f"two={tmp_path},workingDir=/app")
        assert again.returncode == 0, again.stderr
        assert "is up already" in again.stdout
        assert cluster.components() == before
        assert set(cluster.images) == {"one", "two"}
        assert cluster.images["two"].working_directory == "/app"
        other = _command_line("up", "--name", "twice", "--node", "instant")
        assert other.returncode == 1
        assert "`python -m devcluster down --name twice` first" in other.stderr
        with pytest.raises(AlreadyUpError):
            Cluster.start("twice")
    finally:
        _command_line("down", "--name", "twice")


def test_failure_to_start_names_the_component_and_leaves_nothing() -> None:
    """A component that ends at once is named, with what it said, and the rest is taken down."""
    with pytest.raises(
        ClusterError, match=r"kube-apiserver ended with exit code 1: a flag .* is wrong"
    ) as error:
        Cluster.start("broken", node="none", api_server_flags=["--no-such-flag"])
    assert "unknown flag: --no-such-flag" in str(error.value)
    assert "broken" not in names()


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a/b", "..", "a" * 41])
def test_names_that_are_no_directory_or_context_are_refused(name: str) -> None:
    """A name becomes a directory, a context and a node: what can't be all of them is refused."""
    with pytest.raises(ClusterError, match="can't be a cluster's name"):
        Cluster.start(name)


# Crashes


def test_killed_supervisor_leaves_no_process() -> None:
    """SIGKILL of the supervisor ends the cluster; `attach` tells so, and the name can be used again."""
    cluster = Cluster.start("crash", node="none")
    processes = _processes(cluster)
    _guardian(cluster).children()[0].kill()
    _assert_all_end(processes)
    with pytest.raises(NoClusterError, match="ended without being taken down"):
        Cluster.attach("crash")
    with pytest.raises(ControlError):
        cluster.components()
    assert "crashed" in _command_line("list").stdout
    assert _command_line("logs", "--name", "crash", "etcd").returncode == 0
    with Cluster.start("crash", node="none") as successor:
        assert successor.kubectl("get", "--raw", "/readyz") == "ok"


def test_killed_guardian_leaves_no_process() -> None:
    """SIGKILL of the process above the supervisor ends the cluster as well."""
    cluster = Cluster.start("headless", node="none")
    processes = _processes(cluster)
    processes[0].kill()
    _assert_all_end(processes)
    cluster.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent by itself")
def test_guardian_and_supervisor_killed_together_leave_no_process() -> None:
    """The kernel ends the components when nobody is left to."""
    cluster = Cluster.start("beheaded", node="none")
    processes = _processes(cluster)
    guardian = processes[0]
    supervisor = guardian.children()[0]
    guardian.suspend()
    supervisor.kill()
    guardian.kill()
    _assert_all_end(processes)
    cluster.stop()


def test_killed_owner_leaves_neither_process_nor_state() -> None:
    """A cluster that a test started without `keep` is gone when the test's process was killed."""
    owner = _start_in_own_process(
        "import time; from devcluster import Cluster; Cluster.start('owned', node='none');"
        "print('up', flush=True); time.sleep(600)"
    )
    with owner:
        cluster = Cluster.attach("owned")
        processes = _processes(cluster)
        owner.kill()
        _assert_all_end(processes)
        assert not cluster.state_dir.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_foreground_cluster_ends_with_its_command(number: signal.Signals) -> None:
    """Ctrl-C, a service manager's stop and a closed terminal all take `up --foreground` down."""
    owner = _start_in_own_process(
        "import sys; from devcluster.cli import main;"
        "sys.exit(main(['up', '--foreground', '--name', 'front', '--node', 'none']))"
    )
    with owner:
        cluster = Cluster.attach("front")
        processes = _processes(cluster)
        os.killpg(owner.pid, number)
        assert owner.wait(timeout=_ENDS_WITHIN_SECONDS) == (0 if number == signal.SIGINT else 128 + number)
    _assert_all_end(processes)
    assert not cluster.state_dir.exists()


def test_interrupted_start_leaves_nothing() -> None:
    """Ctrl-C while a cluster comes up ends what runs already."""
    with subprocess.Popen(
        [sys.executable, "-m", "devcluster", "up", "--name", "early", "--node", "none"],
        cwd=IMPORT_ROOT,
        start_new_session=True,
    ) as owner:
        _eventually(lambda: "early" in names() and _has_started("early"), "etcd runs")
        processes = _processes(Cluster.attach("early"))
        os.killpg(owner.pid, signal.SIGINT)
        assert owner.wait(timeout=_ENDS_WITHIN_SECONDS) == 130
    _assert_all_end(processes)
    assert "early" not in names()


def _has_started(name: str) -> bool:
    try:
        return Cluster.attach(name).components() != []
    except (NoClusterError, ControlError):
        return False


# Components


def test_component_that_died_is_told_and_not_restarted(shared: Cluster) -> None:
    """`status` names what died and shows why; the rest goes on; it starts again only when told to."""
    os.kill(_pid(shared, "kube-controller-manager"), signal.SIGABRT)
    _eventually(lambda: _state(shared, "kube-controller-manager") == "died", "it is told that it died")
    status = _command_line("status", "--name", "shared")
    assert status.returncode == 1
    assert "kube-controller-manager ended with" in status.stdout
    assert shared.kubectl("get", "--raw", "/readyz") == "ok"
    shared.start_component("kube-controller-manager")
    assert _command_line("status", "--name", "shared").returncode == 0


def test_data_survives_restarts_and_kills(shared: Cluster) -> None:
    """What was written outlives restarts and crashes of the API server and of etcd, at the same address."""
    shared.kubectl("create", "configmap", "kept", "--from-literal=a=1")
    shared.restart("kube-apiserver")
    shared.kill("kube-apiserver")
    assert _state(shared, "kube-apiserver") == "killed"
    shared.kill("etcd")
    shared.start_component("etcd")
    shared.start_component("kube-apiserver")
    assert shared.kubectl("get", "configmap", "kept", "--output=jsonpath={.data.a}") == "1"
    shared.restart("kube-controller-manager")  # it may have given up meanwhile


def test_component_takes_further_flags_and_keeps_them(shared: Cluster) -> None:
    """Flags given at a restart are added to those it had, and are still there after the next one."""
    shared.restart("kube-controller-manager", extra_flags=["--concurrent-cron-job-syncs=7"])
    shared.restart("kube-controller-manager")
    command = psutil.Process(_pid(shared, "kube-controller-manager")).cmdline()
    assert "--leader-elect=false" in command
    assert "--concurrent-cron-job-syncs=7" in command


def test_paused_component_answers_nothing_until_it_goes_on(shared: Cluster) -> None:
    """A paused API server keeps its connections open and answers none; afterwards it serves as before."""
    shared.pause("kube-apiserver")
    try:
        assert _state(shared, "kube-apiserver") == "paused"
        with pytest.raises(ClusterError, match=r"did not end within|Timeout|timeout"):
            shared.kubectl("get", "namespaces", "--request-timeout=1s")
    finally:
        shared.resume("kube-apiserver")
    assert "default" in shared.kubectl("get", "namespaces")


def test_killed_node_takes_its_pods_processes_along(tmp_path: Path) -> None:
    """A node that crashes leaves no process of a pod, as a machine without power does not."""
    code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    with Cluster.start("powerless", images={"app": tmp_path}) as cluster:
        cluster.kubectl(
            "run", "pod", "--image=app", "--restart=Never", "--command", "--", "python", "-c", code
        )
        pid_file = tmp_path / "pid"
        _eventually(lambda: pid_file.exists() and pid_file.read_text() != "", "the container has started")
        container = psutil.Process(int(pid_file.read_text()))
        cluster.kill("node")
        _assert_all_end([container])
        cluster.start_component("node")


# Kubernetes


def test_service_account_tokens_log_in_and_may_do_nothing_by_default(shared: Cluster) -> None:
    """TokenRequest works, the API server knows its own tokens, and RBAC refuses what was not granted."""
    token = shared.kubectl("create", "token", "default").strip()
    config = json.loads(shared.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    kubeconfig = shared.state_dir / "default.kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    arguments = (f"--kubeconfig={kubeconfig}",)
    who = shared.kubectl(*arguments, "auth", "whoami", "--output=jsonpath={.status.userInfo.username}")
    assert who == "system:serviceaccount:default:default"
    with pytest.raises(ClusterError, match="forbidden"):
        shared.kubectl(*arguments, "get", "secrets")


def test_strangers_are_refused(shared: Cluster) -> None:
    """Without a token nothing can be read, and neither etcd nor the supervisor answers whoever connects."""
    config = json.loads(shared.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": "wrong"}
    kubeconfig = shared.state_dir / "wrong.kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    with pytest.raises(ClusterError, match=r"Unauthorized|must be logged in"):
        shared.kubectl(f"--kubeconfig={kubeconfig}", "get", "namespaces")
    assert shared.state_dir.stat().st_mode & 0o077 == 0
    for file in shared.state_dir.glob("*"):
        if file.is_file() and file != kubeconfig and file.name != "default.kubeconfig":
            assert file.stat().st_mode & 0o077 == 0, file


def test_audit_log_has_a_line_for_each_request(shared: Cluster) -> None:
    """With `audit`, who asked for what is in the log, one JSON line each."""
    shared.kubectl("create", "configmap", "noted")
    lines = [json.loads(line) for line in shared.audit_log.read_text().splitlines()]
    created = [each for each in lines if each.get("objectRef", {}).get("name") == "noted"]
    assert [(each["verb"], each["user"]["username"]) for each in created] == [("create", "devcluster-admin")]


# Images


@pytest.mark.parametrize(
    "text", ["", "app", "=dir", "app=", "app=.,python=", "app=.,workdir=/app", "app=.,x"]
)
def test_images_of_another_form_are_refused(text: str) -> None:
    """What is not of the form is refused with the form."""
    with pytest.raises(ImageError, match=r"write NAME=DIR\[,python=FILE\]"):
        parse(text)


def test_images_must_exist(tmp_path: Path) -> None:
    """A directory that isn't there, or a Python that can't be run, is told at once, not by a failing pod."""
    with pytest.raises(ImageError, match=r"image app: .* is no directory"):
        parse(f"app={tmp_path / 'absent'}")
    with pytest.raises(ImageError, match=r"image app: .* is no program"):
        parse(f"app={tmp_path},python={tmp_path}")


def test_image_takes_the_directorys_own_python(tmp_path: Path) -> None:
    """A directory with a virtual environment brings its Python, by the link's own path; else it is ours."""
    assert parse(f"registry.example:5000/app:1={tmp_path}")[1].python == sys.executable
    interpreter = tmp_path / ".venv" / "bin" / "python"
    interpreter.parent.mkdir(parents=True)
    interpreter.symlink_to(sys.executable)
    name, image = parse(f"registry.example:5000/app:1={tmp_path}")
    assert name == "registry.example:5000/app:1"
    assert image.python == str(interpreter)
