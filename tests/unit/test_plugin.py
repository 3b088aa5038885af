"""`kubectl crontabber`: commands are given once, results are waited for, arguments are checked."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crontabber_operator import client, completion, logs_command, plugin
from crontabber_operator.cluster import ApiError
from crontabber_operator.models import HistoryEntry, Result, Status
from crontabber_operator.observed import Run, RunKind
from crontabber_operator.store import Store

PREFIX = "crontabber.dev/"
NO_CRD = "the cluster has no CrontabberJobs; install them with 'kubectl apply -f crds/'."
SLOT = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)


class FakeCluster:
    """CrontabberJobs in memory, with an operator that takes commands when a job is read."""

    def __init__(self) -> None:
        self.namespace = "shop"
        self.bodies: dict[tuple[str, str], dict[str, Any]] = {}
        self.attended = True
        self.result = "Done"
        self.conflicts = 0
        self.given: list[tuple[str, dict[str, str]]] = []

    def add(self, name: str, namespace: str = "shop") -> None:
        """Make a job."""
        self.bodies[namespace, name] = {
            "metadata": {
                "namespace": namespace,
                "name": name,
                "uid": name,
                "resourceVersion": "1",
                "creationTimestamp": "2026-11-01T00:00:00Z",
                "annotations": {},
            },
            "spec": {"command": "work", "frequency": "1h"},
            "status": {"lastSuccessTime": "2026-11-24T08:00:00Z", "missed": 2},
        }

    async def find_resource(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Read a job; the operator acts then."""
        body = self.bodies.get((namespace, name))
        if body is not None and self.attended:
            self._attend(body)
        return deepcopy(body)

    async def list_resources(self, namespace: str | None, selector: str = "") -> list[dict[str, Any]]:
        """List jobs."""
        found = [key for key in self.bodies if namespace in (None, key[0]) and selector != "none=1"]
        return [body for key in found if (body := await self.find_resource(*key)) is not None]

    async def annotate(self, resource: dict[str, Any], annotations: dict[str, str]) -> dict[str, Any]:
        """Set annotations, guarded."""
        metadata = resource["metadata"]
        if self.conflicts:
            self.conflicts -= 1
            raise ApiError(409, "Conflict", "the object has been modified")
        self.given.append((metadata["name"], annotations))
        self.bodies[metadata["namespace"], metadata["name"]]["metadata"]["annotations"] |= annotations
        return resource

    def _attend(self, body: dict[str, Any]) -> None:
        annotations = body["metadata"]["annotations"]
        for name in ("mark-success", "reset", "run-now"):
            value = annotations.pop(PREFIX + name, None)
            if value is not None:
                record = {"id": annotations.pop(PREFIX + "command-id"), "name": name, "value": value}
                commands = body["status"].setdefault("lastCommands", [])
                if all(one["id"] != record["id"] for one in commands):
                    commands.insert(0, {**record, "result": self.result})


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """Return the cluster that the plugin connects to."""
    made = FakeCluster()

    @asynccontextmanager
    async def connected(_kubeconfig: object, _context: object, namespace: str | None) -> Any:
        made.namespace = namespace or "shop"
        yield made

    monkeypatch.setattr(client, "connected", connected)
    monkeypatch.setattr(plugin, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(plugin, "LISTED_POLL_SECONDS", 0.01)
    return made


# --- Commands -------------------------------------------------------------------------------------------


def test_a_command_is_given_with_an_id_and_its_result_printed(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `kubectl annotate` does, and what came of it."""
    cluster.add("job")
    assert plugin.main(["mark-success", "job", "--at", "2026-11-24T08:00Z"]) == 0
    ((name, annotations),) = cluster.given
    assert name == "job"
    assert annotations[PREFIX + "mark-success"] == "2026-11-24T08:00Z"
    assert len(annotations[PREFIX + "command-id"]) >= 16
    assert capsys.readouterr().out == "job: last success is 2026-11-24T08:00:00Z; 2 missed.\n"


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (["mark-success", "job"], {"mark-success": "now"}),
        (["reset", "job"], {"reset": ""}),
        (["run", "job"], {"run-now": ""}),
        (["run", "job", "--", "--day", "24 Nov", "-f"], {"run-now": "--day '24 Nov' -f"}),
    ],
)
def test_each_command_is_an_annotation(
    cluster: FakeCluster, arguments: list[str], given: dict[str, str]
) -> None:
    """With its value, in shell quoting where it is arguments."""
    cluster.add("job")
    assert plugin.main(arguments) == 0
    ((_, annotations),) = cluster.given
    annotations.pop(PREFIX + "command-id")
    assert annotations == {PREFIX + name: value for name, value in given.items()}


def test_many_jobs_get_the_same_command(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """All of a namespace; of all namespaces they are told apart."""
    for number in range(plugin.FEW + 5):
        cluster.add(f"job-{number}")
    cluster.add("other", "elsewhere")
    assert plugin.main(["reset", "--all"]) == 0
    assert len(cluster.given) == plugin.FEW + 5
    assert len(capsys.readouterr().out.splitlines()) == plugin.FEW + 5
    assert plugin.main(["reset", "--all", "-A"]) == 0
    assert "elsewhere/other: all bookkeeping is forgotten.\n" in capsys.readouterr().out
    assert len({annotations[PREFIX + "command-id"] for _, annotations in cluster.given}) == 2


def test_a_refusal_is_told_and_the_exit_code_is_1(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others of the same command are done all the same."""
    cluster.add("job")
    cluster.result = "Refused: mark-success takes 'now' or a time in the past"
    assert plugin.main(["mark-success", "job", "nowhere"]) == 1
    told = capsys.readouterr().err
    assert "mark-success: job: mark-success takes 'now' or a time in the past.\n" in told
    assert "nowhere: there is no CrontabberJob nowhere in namespace shop." in told


def test_a_command_with_an_id_that_was_done_is_not_given_again(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """So a script can be repeated."""
    cluster.add("job")
    assert plugin.main(["reset", "job", "--id", "nightly-7"]) == 0
    assert plugin.main(["reset", "job", "--id", "nightly-7"]) == 0
    assert len(cluster.given) == 1
    assert capsys.readouterr().out == "job: all bookkeeping is forgotten.\n" * 2


def test_without_an_operator_it_says_that_the_command_waits(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stays given; a second command must not push it aside."""
    cluster.add("job")
    cluster.attended = False
    assert plugin.main(["reset", "job", "--timeout", "0"]) == 1
    assert "was not done in 0 s: is the operator running?" in capsys.readouterr().err
    assert plugin.main(["mark-success", "job", "--timeout", "0"]) == 1
    assert "reset was given before and is not done yet" in capsys.readouterr().err
    assert PREFIX + "reset" in cluster.bodies["shop", "job"]["metadata"]["annotations"]
    assert len(cluster.given) == 1


def test_it_need_not_be_waited_for(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """The id is printed, to ask later."""
    cluster.add("job")
    cluster.attended = False
    assert plugin.main(["reset", "job", "--no-wait", "--id", "x"]) == 0
    assert capsys.readouterr().out == "job: reset is given, with the id x.\n"


def test_a_write_that_met_another_is_tried_again(cluster: FakeCluster) -> None:
    """The operator writes to the same object."""
    cluster.add("job")
    cluster.conflicts = 3
    assert plugin.main(["reset", "job"]) == 0
    cluster.conflicts = 1000
    assert plugin.main(["reset", "job"]) == 1


def test_a_job_that_is_deleted_meanwhile_is_told(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for it."""
    cluster.add("job")
    cluster.attended = False

    async def annotate(*_: object) -> None:
        cluster.bodies.clear()

    monkeypatch.setattr(cluster, "annotate", annotate)
    assert plugin.main(["reset", "job"]) == 1
    assert "job: it was deleted meanwhile." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "message", "sentence"),
    [
        (0, "no answer", "the API server can't be reached: no answer."),
        (401, "Unauthorized", "the API server doesn't accept the kubeconfig's login; log in anew."),
        (403, "you may not", "you may not."),
        (404, "404 page not found\n", NO_CRD),
        (404, "the server could not find the requested resource", NO_CRD),
    ],
)
def test_what_the_api_server_refuses_is_told_in_a_sentence(
    cluster: FakeCluster,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    message: str,
    sentence: str,
) -> None:
    """No traceback, exit code 1."""

    async def refuse(*_: object) -> None:
        raise ApiError(status, "", message)

    monkeypatch.setattr(cluster, "find_resource", refuse)
    assert plugin.main(["reset", "job"]) == 1
    assert capsys.readouterr().err == f"kubectl crontabber reset: {sentence}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["reset"],
        ["reset", "a", "--all"],
        ["reset", "a", "-A"],
        ["mark-success", "-l", "a=b", "--all"],
    ],
)
def test_it_has_to_be_said_which_jobs_are_meant(
    cluster: FakeCluster, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """In exactly one way; nothing is done otherwise."""
    cluster.add("a")
    assert plugin.main(arguments) == 2
    assert "name jobs, or say --all or -l" in capsys.readouterr().err
    assert cluster.given == []


def test_no_job_at_all_is_told(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error in a label should not look like success."""
    cluster.add("a")
    assert plugin.main(["reset", "-l", "none=1"]) == 1
    assert "there are no such CrontabberJobs in shop." in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["reset", "a", "--timeout", "soon"], ["run"], ["logs", "a", "--slot", "x"]],
)
def test_wrong_arguments_end_with_a_sentence(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """As everywhere."""
    with pytest.raises(SystemExit) as caught:
        plugin.main(arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert error.startswith("kubectl crontabber")


# --- list -----------------------------------------------------------------------------------------------


def test_a_table_is_written_as_kubectl_does() -> None:
    """Columns of priority 0, or all; the namespace in front where there are several."""
    table = {
        "columnDefinitions": [
            {"name": "Name", "priority": 0},
            {"name": "Missed", "priority": 0},
            {"name": "Command", "priority": 1},
        ]
    }
    rows: list[dict[str, Any]] = [
        {"cells": ["a", 0, "x"], "object": {"metadata": {"namespace": "n"}}},
        {"cells": ["longer", None, "y\nz"], "object": {"metadata": {"namespace": "other"}}},
    ]
    assert (
        plugin.format_table(table, rows, wide=False, namespaces=False)
        == "NAME     MISSED\na        0\nlonger\n"
    )
    assert plugin.format_table(table, rows, wide=True, namespaces=True) == (
        "NAMESPACE   NAME     MISSED   COMMAND\nn           a        0        x\nother       longer            y\n"
    )


# --- logs -----------------------------------------------------------------------------------------------


def run(slot: datetime, attempt: int, **changes: Any) -> Run:
    """Return a run that was started at its slot."""
    fields = {
        "name": f"job-{attempt}",
        "uid": f"{slot}-{attempt}",
        "resource_version": "1",
        "kind": RunKind.ONE_OFF,
        "slot": slot,
        "through": slot,
        "attempt": attempt,
        "template_hash": "",
        "created": slot + timedelta(minutes=attempt),
        "suspended": False,
        "released": True,
        **changes,
    }
    return Run(**fields)


def test_the_newest_run_is_shown_or_that_of_a_slot() -> None:
    """What was never started has no output."""
    hour = timedelta(hours=1)
    first, second = run(SLOT, 1), run(SLOT, 2)
    later = run(SLOT + hour, 1)
    batch = run(SLOT + 2 * hour, 1, through=SLOT + 4 * hour, created=SLOT)
    by_hand = run(SLOT + 3 * hour, 1, kind=RunKind.MANUAL)
    waiting = run(SLOT + 5 * hour, 1, released=False)
    runs = [waiting, later, first, second, batch]
    assert logs_command.choose(runs, None, None) is later
    assert logs_command.choose(runs, SLOT, None) is second
    assert logs_command.choose(runs, SLOT, 1) is first
    assert logs_command.choose([*runs, by_hand], SLOT + 3 * hour, None) is batch
    assert logs_command.choose([*runs, by_hand], None, None) is by_hand
    assert logs_command.choose(runs, SLOT + 5 * hour, None) is None
    assert logs_command.choose([], None, None) is None


def test_a_run_that_is_gone_is_told_with_its_outcome() -> None:
    """The history knows it longer than its Job is kept."""
    entry = HistoryEntry(slot=SLOT, attempt=2, finished=SLOT, result=Result.FAILED, message="ValueError: no")
    store = Store()
    cluster = FakeCluster()
    cluster.add("job")
    body = cluster.bodies["shop", "job"]
    body["status"] = Status(history=(entry,)).write()
    resource = store.resource(store.put_resource(body))
    assert resource is not None
    told = logs_command.why_none(resource, SLOT)
    assert "its attempt 2 ended at 2026-11-24T08:00:00Z: Failed, ValueError: no" in told
    assert "no run of slot 2026-11-24T09:00:00Z" in logs_command.why_none(resource, SLOT + timedelta(hours=1))
    assert "explain job" in logs_command.why_none(resource, None)


# --- Completion -----------------------------------------------------------------------------------------


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no completion reach a cluster."""

    @asynccontextmanager
    async def connected(*_: object) -> Any:
        raise OSError
        yield

    monkeypatch.setattr(client, "connected", connected)


@pytest.mark.parametrize(
    ("program", "words", "expected"),
    [
        ("crontabber", ["sta"], ["state"]),
        ("crontabber", ["state", ""], ["export", "import"]),
        ("crontabber", ["state", "import", "--f"], ["--force"]),
        ("crontabber", ["slots", "--sch"], ["--schedule"]),
        ("crontabber", ["slots", "--schedule", ""], []),
        ("crontabber", ["completion", ""], ["bash", "zsh", "fish"]),
        ("crontabber", ["nonsense", ""], None),
        ("kubectl crontabber", ["re"], ["reset"]),
        ("kubectl crontabber", ["list", "-o", ""], ["wide"]),
        ("kubectl crontabber", ["logs", "-n", "shop", "--f"], ["--follow"]),
        ("kubectl crontabber", ["mark-success", "upd"], []),
        ("kubectl crontabber", [], None),
    ],
)
@pytest.mark.usefixtures("no_cluster")
def test_words_are_completed(program: str, words: list[str], expected: list[str] | None) -> None:
    """From the parsers themselves; without a cluster there are only no names."""
    found = completion.candidates(program, words)
    if expected is None:
        assert "state" in found or "mark-success" in found
    else:
        assert found == expected


def test_names_of_jobs_are_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the namespace that was typed before."""
    cluster = FakeCluster()
    for name in ("updatesignatures", "updatemissing", "crontest"):
        cluster.add(name)
    cluster.add("updateother", "elsewhere")

    @asynccontextmanager
    async def connected(_kubeconfig: object, _context: object, namespace: str | None) -> Any:
        cluster.namespace = namespace or "shop"
        yield cluster

    monkeypatch.setattr(client, "connected", connected)
    found = completion.candidates("kubectl crontabber", ["mark-success", "upd"])
    assert found == ["updatemissing", "updatesignatures"]
    found = completion.candidates("kubectl crontabber", ["mark-success", "-n", "elsewhere", "upd"])
    assert found == ["updateother"]


def test_a_slow_cluster_gives_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt must not hang."""

    @asynccontextmanager
    async def connected(*_: object) -> Any:
        await asyncio.Event().wait()
        yield

    monkeypatch.setattr(client, "connected", connected)
    monkeypatch.setattr(completion, "PATIENCE_SECONDS", 0.01)
    assert completion.candidates("kubectl crontabber", ["reset", ""]) == []


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_each_shell_has_its_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the program under the name that it is installed with."""
    assert plugin.main(["completion", shell]) == 0
    assert "kubectl-crontabber __complete" in capsys.readouterr().out


def test_bash_completes_with_it(tmp_path: Path) -> None:
    """In a real bash: a word is completed by the program's answer."""
    words = f"{sys.executable} -c 'from crontabber_operator.cli import main; main()'"
    (tmp_path / "crontabber").write_text(f'#!/bin/sh\nexec {words} "$@"\n', encoding="utf-8")
    (tmp_path / "crontabber").chmod(0o755)
    script = (
        f"PATH={tmp_path}:$PATH; source <(crontabber completion bash);"
        ' COMP_WORDS=(crontabber state exp); COMP_CWORD=2; _crontabber; echo "${COMPREPLY[@]}"'
    )
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout.strip() == "export", ended.stderr


def test_kubectl_gets_its_directive_after_the_candidates(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As kubectl's completion of plugins wants it: kubectl_complete-crontabber."""
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-crontabber", "res"])
    assert completion.kubectl_main() == 0
    assert capsys.readouterr().out == "reset\n:4\n"


# --- Start-up -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", ["'reset', '--help'", "'reset'", "'--help'"])
def test_wrong_arguments_and_help_load_no_client(arguments: str) -> None:
    """They are told at once."""
    script = (
        "import sys\nfrom crontabber_operator import plugin\n"
        f"try:\n    plugin.main([{arguments}])\nexcept SystemExit:\n    pass\n"
        "print('kubernetes' in sys.modules, 'kopf' in sys.modules, 'pydantic' in sys.modules, file=sys.stderr)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stderr.splitlines()[-1] == "False False False"
