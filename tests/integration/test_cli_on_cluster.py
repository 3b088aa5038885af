"""The command line on a real API server: explain, state export and import, and kubectl's plugin."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
import yaml

from devcluster import Cluster, build
from tests.integration.side_by_side import OwnOperators
from tests.integration.testbed import Testbed, before, now, short, written

pytestmark = pytest.mark.side_by_side

CRONTABBER = "from crontabber_operator.cli import main"
PLUGIN = "from crontabber_operator.plugin import main"
COMPLETION = "from crontabber_operator.completion import kubectl_main as main"
TIMEOUT_SECONDS = 120.0


class Shell:
    """A terminal in which a namespace's command line is used."""

    def __init__(self, cluster: Cluster, bed: Testbed) -> None:
        """Keep what the command lines need."""
        self._environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
        self._bed = bed

    def crontabber(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Call `crontabber`, in the test's namespace."""
        return self._call(CRONTABBER, [*arguments, "-n", self._bed.namespace], stdin)

    def plugin(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Call `kubectl crontabber`, in the test's namespace."""
        command, *rest = arguments
        return self._call(PLUGIN, [command, "-n", self._bed.namespace, *rest], "")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `kubectl crontabber` in the background."""
        command, *rest = arguments
        return subprocess.Popen(
            self._words(PLUGIN, [command, "-n", self._bed.namespace, *rest]),
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _call(self, program: str, arguments: list[str], stdin: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._words(program, arguments),
            env=self._environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )

    @staticmethod
    def _words(program: str, arguments: list[str]) -> list[str]:
        return [sys.executable, "-c", f"import sys; {program}; sys.exit(main())", *arguments]


def told(ended: subprocess.CompletedProcess[str]) -> str:
    """Return what a command line printed that did what it was asked."""
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


# --- explain ----------------------------------------------------------------------------------------------


def test_explain_tells_what_the_operator_does(cluster: Cluster, bed: Testbed) -> None:
    """Settled, running, failing and suspended: from the live resource, in its own words."""
    shell = Shell(cluster, bed)
    slots = bed.missed_slots(3)
    following = written(slots[-1] + timedelta(hours=1))
    job = bed.job("job", backfill=True, passLastSuccess=True, retryDelaySeconds=3000)
    bed.wait_ready(job)
    text = told(shell.crontabber("explain", job))
    assert "Every slot that was due is settled." in text
    assert f"Next: slot {following}, in " in text
    assert "no slot before that is run" in text
    assert (
        f"`python manage.py record --run-time={following[:16]} --last-success=`, in its own pod template"
        in text
    )
    assert "Dry run: no slot would be caught up." in text
    assert "seems not to run" not in text

    bed.control("job", hold=True, failures={short(slots[1]): 9})
    bed.annotate(job, mark_success=before(slots))
    bed.wait_running(job)
    text = told(shell.crontabber("explain", f"{bed.namespace}/{job}"))
    assert f"Slot {written(slots[0])} is running since " in text
    assert "Dry run: 3 slots would be caught up in this order" in text
    listed = [line.strip() for line in text.splitlines() if line.startswith("  ")]
    assert listed == [f"{written(slots[0])} (running)", *map(written, slots[1:])]

    bed.control("job", failures={short(slots[1]): 9})
    bed.wait_status(job, errorCount=1)
    text = told(shell.crontabber("explain", job))
    assert f"another attempt at slot {written(slots[1])}, at " in text
    assert "It failed once, the last time with RuntimeError: the database is on fire." in text
    assert f"Last success: {written(slots[0])} (" in text
    assert [line.strip() for line in text.splitlines() if line.startswith("  ")] == [*map(written, slots[1:])]

    bed.change(job, suspend=True)
    bed.wait_status(job, state="Suspended")
    text = told(shell.crontabber("explain", job))
    assert "It is suspended: no new run starts until spec.suspend is false." in text
    assert "once nothing holds it back" in text


def test_explain_names_what_holds_a_job_back(cluster: Cluster, bed: Testbed) -> None:
    """A web app that isn't there, a CronJob of somebody else, a spec that can't be carried out; all at once."""
    shell = Shell(cluster, bed)
    bed.job("lost", template=None, webapp={"name": "nowhere"})
    template = bed.template("taken")
    template["spec"]["restartPolicy"] = "Never"
    theirs = {"schedule": "0 0 1 1 *", "suspend": True, "jobTemplate": {"spec": {"template": template}}}
    bed.create("cronjobs", {"metadata": {"name": "taken"}, "spec": theirs})
    bed.job("taken")
    bed.job("wrong", timeZone="Mars/Olympus")
    bed.wait_status("wrong", state="Invalid")
    bed.wait_status("taken", state="Invalid")
    bed.wait_event("lost", "WebAppNotFound")
    text = told(shell.crontabber("explain"))
    assert "It can't be scheduled: Deployment nowhere does not exist in this namespace." in text
    assert "CronJob taken exists and was not made for this resource." in text
    assert f"{bed.namespace}/wrong: its spec can't be carried out" in text
    assert "spec.timeZone 'Mars/Olympus': is not known" in text
    missing = shell.crontabber("explain", "missing")
    assert missing.returncode == 1
    assert f"there is no CrontabberJob missing in namespace {bed.namespace}." in missing.stderr


def test_explain_says_that_no_operator_runs(cluster: Cluster, own: OwnOperators) -> None:
    """Then the status is old, and nothing comes of it."""
    bed, shell = own.bed, Shell(cluster, own.bed)
    job = bed.job("job", backfill=True, annotations={"mark-success": ""})
    exported = shell.crontabber("state", "export", job)
    assert "the command mark-success is not done yet and is left out." in exported.stderr
    text = told(shell.crontabber("explain", job))
    assert "Given by annotation and not done yet: mark-success." in text
    assert "it seems not to run, or not to watch this namespace" in text
    own.start()
    bed.wait_ready(job)
    bed.wait(lambda: "lastSuccessTime" in bed.status(job), "the mark is done")
    text = told(shell.crontabber("explain", job))
    assert "seems not to run" not in text
    assert "Last success: " in text


def test_explain_tells_what_an_edit_would_do(cluster: Cluster, bed: Testbed) -> None:
    """--live: the file's spec with the bookkeeping that there is."""
    shell = Shell(cluster, bed)
    slots = bed.missed_slots(4)
    job = bed.job("job", suspend=True, backfill=True, annotations={"mark-success": before(slots)})
    bed.wait_status(job, missed=4)
    body = {
        "apiVersion": "crontabber.dev/v1",
        "kind": "CrontabberJob",
        "metadata": {"name": job},
        "spec": {**bed.resource(job)["spec"], "suspend": False, "backfillLimit": 1},
    }
    path = bed.folder / "edit.yaml"
    path.write_text(yaml.safe_dump(body), encoding="utf-8")
    text = told(shell.crontabber("explain", "--live", "-f", str(path)))
    assert "If this manifest were applied now:" in text
    assert "3 slots will be skipped by backfillLimit." in text
    assert "Dry run: 1 slot would be caught up" in text
    body["metadata"] = {"name": "new"}
    path.write_text(yaml.safe_dump(body), encoding="utf-8")
    text = told(shell.crontabber("explain", "--live", "-f", str(path)))
    assert f"{bed.namespace}/new does not exist yet." in text
    assert "Its first slot would be " in text
    assert bed.resource(job)["spec"]["suspend"] is True


# --- state ------------------------------------------------------------------------------------------------


def test_a_move_to_another_cluster_runs_no_slot_twice_and_loses_none(cluster: Cluster, bed: Testbed) -> None:
    """Exported, removed, made anew as from Git, imported while the operator runs: both kinds go on."""
    shell = Shell(cluster, bed)
    slots = bed.missed_slots(5)
    bed.control("gated", failures={short(slots[2]): 9})
    gated = bed.job(
        "gated", backfill=True, retryDelaySeconds=3000, annotations={"mark-success": before(slots)}
    )
    plain = bed.job("plain", annotations={"mark-success": before(slots[-1:])})
    bed.wait_status(gated, errorCount=1)
    bed.wait_status(plain, missed=0, settledThrough=written(slots[-1]))
    bed.wait(lambda: len(bed.good(gated)) == 2, "two slots succeeded")
    exported = told(shell.crontabber("state", "export", "--all"))
    old = {name: bed.status(name) for name in (gated, plain)}
    for name in (gated, plain):
        bed.delete("crontabberjobs", name)
        bed.wait(lambda name=name: bed.find("cronjobs", name) is None, f"{name} is gone")  # type: ignore[misc]
        bed.wait(lambda name=name: not bed.objects("jobs", name), f"the Jobs of {name} are gone")  # type: ignore[misc]

    bed.control("gated")
    nothing = shell.crontabber("state", "import", stdin=exported)
    assert nothing.returncode == 1
    assert nothing.stdout.count("there is no such CrontabberJob") == 2
    # They come from Git later: an import can wait for them.
    with subprocess.Popen(
        Shell._words(CRONTABBER, ["state", "import", "--wait", "60", "-n", bed.namespace]),  # noqa: SLF001
        env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as importing:
        assert importing.stdin is not None
        importing.stdin.write(exported)
        importing.stdin.close()
        bed.job("gated", backfill=True, retryDelaySeconds=3000)
        bed.job("plain")
        output = importing.stdout.read() if importing.stdout is not None else ""
        assert importing.wait(TIMEOUT_SECONDS) == 0, output
    status = bed.wait_status(gated, missed=0, errorCount=0, settledThrough=written(slots[-1]))
    assert bed.good(gated) == [short(slot) for slot in slots]
    assert [run.run_time for run in bed.runs(gated)].count(short(slots[0])) == 1
    assert status["firstRunTime"] == old[gated]["firstRunTime"]
    assert len(status["history"]) == len(old[gated]["history"]) + 3
    status = bed.wait_ready(plain)
    for key in ("lastSuccessTime", "settledThrough", "history", "firstRunTime"):
        assert status[key] == old[plain][key], key
    assert status["missed"] == 0
    assert len(bed.runs(plain)) == 1

    again = shell.crontabber("state", "import", stdin=exported)
    assert told(again).count("unchanged: it was imported before") == 2
    assert len(bed.runs(gated)) == 6
    assert len(bed.runs(plain)) == 1


def test_import_without_the_operator_is_taken_up_when_it_comes(cluster: Cluster, own: OwnOperators) -> None:
    """The status is all that there is: slots that the old cluster missed are run, settled ones are not."""
    bed, shell = own.bed, Shell(cluster, own.bed)
    slots = bed.missed_slots(3)
    books = {"lastSuccessTime": written(slots[0]), "settledThrough": written(slots[0])}
    for name in ("gated", "plain"):
        bed.job(name, backfill=True if name == "gated" else None)
    items = [{"name": name, "status": books} for name in ("gated", "plain")]
    body = {"apiVersion": "crontabber.dev/v1", "kind": "CrontabberState", "items": items}
    told(shell.crontabber("state", "import", stdin=json.dumps(body)))
    own.start()
    bed.wait_status("gated", missed=0, settledThrough=written(slots[-1]))
    bed.wait_status("plain", missed=0, settledThrough=written(slots[-1]))
    assert bed.good("gated") == [short(slot) for slot in slots[1:]]
    assert len(bed.runs("plain")) == 1


def test_import_killed_anywhere_can_be_repeated(cluster: Cluster, own: OwnOperators) -> None:
    """One write a job: it was done, or it was not."""
    bed, shell = own.bed, Shell(cluster, own.bed)
    slots = bed.missed_slots(2)
    names = [f"job-{number}" for number in range(8)]
    for name in names:
        bed.job(name, backfill=True, suspend=True)
    books = {"lastSuccessTime": before(slots), "settledThrough": before(slots)}
    body = {
        "apiVersion": "crontabber.dev/v1",
        "kind": "CrontabberState",
        "items": [{"name": name, "status": books} for name in names],
    }
    path = bed.folder / "state.json"
    path.write_text(json.dumps(body), encoding="utf-8")
    importing = subprocess.Popen(
        Shell._words(CRONTABBER, ["state", "import", str(path), "-n", bed.namespace]),  # noqa: SLF001
        env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    bed.wait(
        lambda: importing.poll() is not None or any(bed.status(name) for name in names), "one job is imported"
    )
    importing.send_signal(signal.SIGKILL)
    importing.wait(TIMEOUT_SECONDS)
    told(shell.crontabber("state", "import", str(path)))
    own.start()
    for name in names:
        bed.wait_status(name, missed=2, state="Suspended")
        assert bed.status(name)["lastSuccessTime"] == before(slots)
        assert [one["name"] for one in bed.status(name)["lastCommands"]] == ["import"]


def test_an_import_never_takes_a_success_back_unasked(cluster: Cluster, bed: Testbed) -> None:
    """Refused, told, and done with --force: then the slots since run again. A dry run changes nothing."""
    shell = Shell(cluster, bed)
    slots = bed.missed_slots(3)
    for name in ("gated", "plain"):
        bed.job(
            name,
            backfill=True if name == "gated" else None,
            annotations={"mark-success": before(slots[:1] if name == "gated" else slots[-1:])},
        )
        bed.wait_status(name, missed=0, settledThrough=written(slots[-1]))
    books = {"lastSuccessTime": written(slots[0]), "settledThrough": written(slots[0])}
    items = [{"name": name, "status": books} for name in ("gated", "plain")]
    text = json.dumps({"apiVersion": "crontabber.dev/v1", "kind": "CrontabberState", "items": items})
    refused = shell.crontabber("state", "import", stdin=text)
    assert refused.returncode == 1
    assert refused.stdout.count("--force moves it back, and the slots since then run again.") == 2
    dry = shell.crontabber("state", "import", "--force", "--dry-run", stdin=text)
    assert told(dry).count("(dry run)") == 2
    assert (len(bed.runs("gated")), len(bed.runs("plain"))) == (3, 1)
    told(shell.crontabber("state", "import", "--force", stdin=text))
    bed.wait(lambda: len(bed.good("gated")) == 5, "the slots since then ran again")
    bed.wait(lambda: len(bed.good("plain")) == 2, "the newest slot ran again")
    assert bed.good("gated")[3:] == [short(slot) for slot in slots[1:]]


def test_export_and_import_name_what_they_leave_out(cluster: Cluster, bed: Testbed) -> None:
    """A job that runs is told by both; a job that doesn't exist ends the export."""
    shell = Shell(cluster, bed)
    slots = bed.missed_slots(1)
    bed.control("job", hold=True)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    bed.wait_running(job)
    exported = shell.crontabber("state", "export", job)
    assert f"is running slot {written(slots[0])}: it is not counted" in exported.stderr
    running = shell.crontabber("state", "import", stdin=told(exported))
    assert running.returncode == 1
    assert "is running; wait for its end" in running.stdout
    bed.control("job")
    waited = shell.crontabber("state", "import", "--wait", "60", "--force", stdin=exported.stdout)
    assert "imported: last success " in told(waited)
    missing = shell.crontabber("state", "export", "nowhere")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "there is no CrontabberJob nowhere" in missing.stderr


# --- kubectl crontabber -------------------------------------------------------------------------------------


def test_the_plugin_gives_commands_and_prints_what_came_of_them(cluster: Cluster, bed: Testbed) -> None:
    """mark-success, reset, run, list and logs, for one job and for many."""
    shell = Shell(cluster, bed)
    slots = bed.missed_slots(2)
    for name in ("one", "two"):
        bed.job(name, backfill=True)
        bed.wait_ready(name)
    text = told(shell.plugin("mark-success", "--all", "--at", before(slots)))
    assert sorted(line.split(";")[0] for line in text.splitlines()) == [
        f"{name}: last success is {before(slots)}" for name in ("one", "two")
    ]
    for name in ("one", "two"):
        bed.wait_status(name, missed=0, settledThrough=written(slots[-1]))
        assert bed.good(name) == [short(slot) for slot in slots]
    refused = shell.plugin("mark-success", "one", "--at", written(now() + timedelta(hours=1)))
    assert refused.returncode == 1
    assert "is in the future" in refused.stderr

    listed = told(shell.plugin("list")).splitlines()
    assert listed[0].split()[:3] == ["NAME", "SCHEDULE", "STATE"]
    assert [line.split()[0] for line in listed[1:]] == ["one", "two"]
    assert told(shell.plugin("list", "two", "-o", "wide")).splitlines()[0].endswith("LAST ERROR")

    output = shell.plugin("logs", "one", "--slot", written(slots[0]))
    assert told(output) == f"run {short(slots[0])} begins\n"
    assert f"slot {written(slots[0])}, attempt 1, pod one-" in output.stderr
    assert told(shell.plugin("logs", "one")) == f"run {short(slots[1])} begins\n"
    assert shell.plugin("logs", "one", "--slot", written(slots[0] - timedelta(hours=5))).returncode == 1

    assert told(shell.plugin("reset", "one")) == "one: all bookkeeping is forgotten.\n"
    assert "lastSuccessTime" not in bed.status("one")


def test_the_plugin_runs_a_job_and_follows_its_output(cluster: Cluster, bed: Testbed) -> None:
    """Exit code 1 where it fails; the same id gives no second run."""
    shell = Shell(cluster, bed)
    job = bed.job("job", backfill=True)
    bed.wait_ready(job)
    ended = shell.plugin("run", job, "-f", "--id", "first", "--", "--day", "24 Nov")
    assert "begins" in told(ended)
    (ran,) = bed.runs(job)
    assert ran.argv[0] == "record"
    assert ran.argv[2:] == ("--day", "24 Nov")
    told(shell.plugin("run", job, "--id", "first", "--", "--day", "24 Nov"))
    assert len(bed.runs(job)) == 1
    bed.control("job", failures=99)
    failed = shell.plugin("run", job, "-f")
    assert failed.returncode == 1
    assert "the database is on fire" in failed.stdout
    assert failed.stderr.splitlines()[-1].endswith(" failed.")
    assert bed.status(job)["errorCount"] == 0


def test_logs_follow_a_run_until_it_ends(cluster: Cluster, bed: Testbed) -> None:
    """Line by line while it runs; then it ends by itself."""
    shell = Shell(cluster, bed)
    slots = bed.missed_slots(1)
    bed.control("job", hold=True)
    job = bed.job("job", backfill=True, annotations={"mark-success": before(slots)})
    following = shell.start("logs", job, "-f", "--slot", written(slots[0]))
    try:
        assert following.stdout is not None
        assert following.stdout.readline() == f"run {short(slots[0])} begins\n"
        assert following.poll() is None
        bed.control("job")
        _, error = following.communicate(timeout=TIMEOUT_SECONDS)
        assert following.returncode == 0, error
    finally:
        following.kill()
        following.wait(TIMEOUT_SECONDS)


def test_kubectl_finds_the_plugin(cluster: Cluster, bed: Testbed) -> None:
    """As `kubectl crontabber`, with its completion, where both programs are on PATH."""
    bed.job("job")
    bed.wait_ready("job")
    for name, program in (("kubectl-crontabber", PLUGIN), ("kubectl_complete-crontabber", COMPLETION)):
        path = bed.folder / name
        path.write_text(f"#!{sys.executable}\nimport sys\n{program}\nsys.exit(main())\n", encoding="utf-8")
        path.chmod(0o755)
    environment = {
        **os.environ,
        "KUBECONFIG": str(cluster.kubeconfig),
        "PATH": f"{bed.folder}:{os.environ['PATH']}",
    }

    def kubectl(*arguments: str) -> str:
        words = [str(build.path_of("kubectl")), *arguments]
        return told(
            subprocess.run(
                words, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
            )
        )

    assert "job" in kubectl("crontabber", "list", "-n", bed.namespace)
    completed = kubectl("__complete", "crontabber", "mark-success", "-n", bed.namespace, "j")
    assert completed.splitlines()[0] == "job"


def test_a_context_that_does_not_exist_is_told(cluster: Cluster, bed: Testbed) -> None:
    """With the names of those that do."""
    ended = Shell(cluster, bed).plugin("list", "--context", "nowhere")
    assert ended.returncode == 2
    assert "the kubeconfig has no context nowhere; it has devcluster-" in ended.stderr


def test_a_large_namespace_is_listed_whole(cluster: Cluster, own: OwnOperators) -> None:
    """Page by page: more jobs than one answer of the API server holds."""
    bed, shell = own.bed, Shell(cluster, own.bed)
    count = 520
    items: list[dict[str, Any]] = [
        {
            "apiVersion": "crontabber.dev/v1",
            "kind": "CrontabberJob",
            "metadata": {"name": f"job-{number:03}", "namespace": bed.namespace},
            "spec": {"command": "work", "frequency": "1h", "template": bed.template("job")},
        }
        for number in range(count)
    ]
    listed = {"apiVersion": "v1", "kind": "List", "items": items}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(listed), timeout_seconds=2 * TIMEOUT_SECONDS)
    assert len(told(shell.plugin("list")).splitlines()) == count + 1
    assert len(json.loads(told(shell.crontabber("state", "export", "--all")))["items"]) == count


# --- migrate ----------------------------------------------------------------------------------------------


def test_a_migrated_job_goes_on_where_the_original_stopped(cluster: Cluster, bed: Testbed) -> None:
    """JOBS and a dump become manifests and a state file; the slots since then run, the failed one among them."""
    shell = Shell(cluster, bed)
    hour = timedelta(hours=1)
    newest = now().replace(minute=0)
    last_good, failed = newest - 3 * hour, newest - 2 * hour
    (bed.folder / "jobs.py").write_text(
        "JOBS = [{'cmd': 'record', 'frequency': '1h', 'backfill': True, 'last_success': True}]",
        encoding="utf-8",
    )
    # The original has the failed slot as the last success.
    row = {
        "app_name": "record",
        "last_success": written(failed),
        "error_count": 1,
        "last_error": "{'value': 'no'}",
    }
    log = {"app_name": "record", "log_time": written(last_good), "success": written(last_good)}
    dump = [{"model": "cron.job", "fields": row}, {"model": "cron.log", "fields": log}]
    (bed.folder / "dump.json").write_text(json.dumps(dump), encoding="utf-8")
    out = bed.folder / "out"
    told(
        shell.crontabber(
            "migrate",
            *(str(bed.folder / "jobs.py"), "--state", str(bed.folder / "dump.json")),
            *("--out", str(out), "--webapp", "site"),
        )
    )
    template = bed.template("record")
    template["metadata"] = {"labels": {"app": "site"}}
    template["spec"]["containers"][0]["command"] = ["python", "manage.py", "serve"]
    deployment = {"replicas": 1, "selector": {"matchLabels": {"app": "site"}}, "template": template}
    bed.create("deployments", {"metadata": {"name": "site"}, "spec": deployment})
    cluster.kubectl("apply", "-f", str(out))
    told(shell.crontabber("state", "import", str(out / "crontabber.state")))
    bed.wait(lambda: len(bed.good("record")) >= 3, "three slots were caught up")
    first = bed.runs("record")[0]
    assert first.argv == ("record", f"--run-time={short(failed)}", f"--last-success={short(last_good)}")
    assert bed.good("record")[:3] == [short(failed), short(failed + hour), short(newest)]
