"""A Job for many slots: its manifest, and what its runner reports. Tables."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from crontabber_operator import batch_runner, batches
from crontabber_operator.batches import Marker, Progress, launcher
from crontabber_operator.decision import NewRun
from crontabber_operator.manifests import NO_SETTINGS, Owner, command_container, one_off, plan
from crontabber_operator.models import Result, Spec
from crontabber_operator.runner_delivery import SOURCE, config_map

OWNER = Owner("space", "job", "owner-uid")
NONCE = "5ec4e7000001"
AT = datetime(2026, 6, 3, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "python", "program"),
    [
        ("python manage.py", "python", "manage.py"),
        ("python3.12 webapp/manage.py", "python3.12", "webapp/manage.py"),
        ("/venv/bin/python -u manage.py", "/venv/bin/python -u", "manage.py"),
        (
            "python -X utf8 -W error -bb -Xdev manage.py --x",
            "python -X utf8 -W error -bb -Xdev",
            "manage.py --x",
        ),
        ("poetry run python manage.py", "poetry run python", "manage.py"),
        ("python -m django", "python", "-m django"),
        (
            "env DJANGO_SETTINGS_MODULE=a python3 manage.py",
            "env DJANGO_SETTINGS_MODULE=a python3",
            "manage.py",
        ),
    ],
)
def test_manage_py_is_taken_apart(given: str, python: str, program: str) -> None:
    """The interpreter with its flags, and what it runs."""
    assert launcher(tuple(given.split())) == (tuple(python.split()), tuple(program.split()))


@pytest.mark.parametrize(
    "given",
    [
        (),
        ("./manage.py",),
        ("django-admin",),
        ("python",),
        ("python", "-u"),
        ("python", "-m"),
        ("python", "-c", "import x"),
        ("python", "-"),
        ("python", "--check"),
        ("sh", "-c", "python manage.py"),
        ("pythonic", "manage.py"),
        ("python", "-X"),
    ],
)
def test_what_is_no_python_with_a_program_cannot_carry_a_batch(given: tuple[str, ...]) -> None:
    """It is said which field keeps it from it, and what happens instead."""
    assert launcher(given) is None
    reason = batches.why_not(Spec.read({"command": "a", "frequency": "1h"}, name="job"), given)
    assert reason is not None
    assert "spec.managePy" in reason
    assert "a Job of its own" in reason


def test_a_volume_of_the_same_name_cannot_carry_a_batch() -> None:
    """A pod can't have two of them."""
    template = {
        "spec": {"containers": [{"name": "app", "image": "a"}], "volumes": [{"name": batches.VOLUME}]}
    }
    spec = Spec.read({"command": "a", "frequency": "1h", "template": template}, name="job")
    assert "spec.template" in str(batches.why_not(spec, ("python", "manage.py")))
    assert (
        batches.why_not(Spec.read({"command": "a", "frequency": "1h"}, name="job"), ("python", "m.py"))
        is None
    )


def carried(**fields: Any) -> dict[str, Any]:
    """Return the Job of three slots."""
    template = {
        "metadata": {"annotations": {"own": "1"}},
        "spec": {
            "containers": [
                {
                    "name": "app",
                    "image": "app",
                    "env": [{"name": "DAY", "value": "of $(RUN_TIME)"}],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }
            ],
            "volumes": [{"name": "data", "emptyDir": {}}],
            "terminationGracePeriodSeconds": 7,
        },
    }
    spec = Spec.read(
        {
            "command": "work",
            "args": ["--day=$(RUN_TIME)"],
            "frequency": "1h",
            "backfill": True,
            "passLastSuccess": True,
            "activeDeadlineSeconds": 100,
            "managePy": ["python3", "-u", "manage.py"],
            "template": template,
            **fields,
        },
        name="job",
    )
    made = plan(OWNER, spec, template, NO_SETTINGS)
    job = one_off(OWNER, made, NewRun(AT, AT.replace(hour=12), 1))
    container = command_container(job["spec"]["template"]["spec"]["containers"])
    batches.carry(job["spec"], container, "job-runner-1", 3)
    return job


def test_a_batch_runs_the_runner_in_place_of_python_alone() -> None:
    """With its own files, and without a change of what the command is given."""
    job = carried()
    pod = job["spec"]["template"]
    container = pod["spec"]["containers"][0]
    assert container["command"] == [
        "python3",
        "-u",
        "/crontabber.dev/runner.py",
        "--plan=/crontabber.dev/plan.json",
        "--report=/dev/termination-log",
        "--timeout=100",
        "--grace=7",
        "--",
        "manage.py",
    ]
    assert container["args"] == [
        "work",
        "--day=$(RUN_TIME)",
        "--run-time=$(RUN_TIME)",
        "--last-success=$(LAST_SUCCESS)",
    ]
    env = {one["name"]: one.get("value") for one in container["env"]}
    assert env == {
        "RUN_TIME": batch_runner.MARKS["RUN_TIME"],
        "LAST_SUCCESS": batch_runner.MARKS["LAST_SUCCESS"],
        "PYTHONUNBUFFERED": "1",
        "DAY": "of $(RUN_TIME)",
    }
    assert [one["name"] for one in container["volumeMounts"]] == ["data", "crontabber-batch"]
    assert pod["metadata"]["annotations"]["crontabber.dev/batch"] == ""
    (_, volume) = pod["spec"]["volumes"]
    assert volume["projected"]["sources"][0]["configMap"]["name"] == "job-runner-1"


def test_a_batch_has_time_for_all_its_slots() -> None:
    """The deadline is each slot's own; pod and Job may take as long as all of them."""
    job = carried()
    assert job["spec"]["template"]["spec"]["activeDeadlineSeconds"] == 307
    assert job["spec"]["activeDeadlineSeconds"] == 607
    longest = carried(activeDeadlineSeconds=2**31 - 1000)
    assert longest["spec"]["activeDeadlineSeconds"] == 2**31 - 1


def test_an_evicted_batch_is_not_made_again_by_kubernetes() -> None:
    """Some of its slots are done: the next attempt needs another plan."""
    job = carried()
    assert "podFailurePolicy" not in job["spec"]
    assert job["spec"]["backoffLimit"] == 0


def test_the_cronjobs_own_template_stays_as_it_is() -> None:
    """Only the Job of a batch is changed."""
    assert "crontabber.dev/batch" not in json.dumps(
        plan(
            OWNER,
            Spec.read({"command": "a", "frequency": "1h", "backfill": True}, name="job"),
            POD,
            NO_SETTINGS,
        ).manifest
    )


POD: dict[str, Any] = {"spec": {"containers": [{"name": "app", "image": "app"}]}}


def test_the_runners_config_map_is_the_resources_own_and_of_this_version() -> None:
    """Another resource of the name, or another runner, has another one; nobody can change it."""
    made = config_map(OWNER)
    assert made["immutable"] is True
    assert made["data"] == {"runner.py": SOURCE}
    assert [one["uid"] for one in made["metadata"]["ownerReferences"]] == ["owner-uid"]
    names = {
        batches.config_map_name("job", uid, source)
        for uid in ("owner-uid", "other")
        for source in (SOURCE, "x")
    }
    assert len(names) == 4
    assert made["metadata"]["name"] in names
    assert len(batches.config_map_name("n" * 48, "uid", SOURCE)) <= 253


# --- What the runner says -------------------------------------------------------------------------------------


def report(**told: Any) -> str:
    """Write a report as the runner does."""
    return json.dumps({"crontabber": NONCE, "good": None, **told}).ljust(200) + "\n"


def test_a_report_is_read() -> None:
    """The last good slot, and how the next one failed."""
    found = batches.read_report(report(good="2026-06-03T10:00:00Z", how="timeout", code=124), NONCE)
    assert found is not None
    assert (found.good, found.result, found.ended) == (AT, Result.TIMED_OUT, True)
    first = batches.read_report(report(), NONCE)
    assert first is not None
    assert (first.good, first.result, first.ended) == (None, None, False)


@pytest.mark.parametrize(
    "message",
    ["", "{", "[]", "Traceback", report(crontabber="another"), report(good=7, how=[]), report(good="x")],
)
def test_what_is_no_report_is_not_believed(message: str) -> None:
    """Whatever is in the message: no slot counts as done because of it."""
    found = batches.read_report(message, NONCE)
    assert found is None or found.good is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"crontabber[{NONCE}] slot 2026-06-03T10:00:00Z begins\n", Marker("", AT, "begins")),
        (
            f"half a linecrontabber[{NONCE}] slot 2026-06-03T10:00:00Z succeeded in 1.000 s",
            Marker("half a line", AT, "succeeded in 1.000 s"),
        ),
        (f"crontabber[{NONCE}] note: a slot b begins", Marker("", None, "a slot b begins")),
        ("crontabber[another] slot 2026-06-03T10:00:00Z begins", None),
        (f"crontabber[{NONCE}] slot tomorrow begins", None),
        (f"crontabber[{NONCE}] ", None),
        ("", None),
    ],
)
def test_markers_are_read(line: str, expected: Marker | None) -> None:
    """Also where the command had not ended its line; without the nonce a line is the command's own."""
    assert batches.read_marker(line, NONCE) == expected


OUTPUT = f"""\
the end of an earlier slot
crontabber[{NONCE}] note: each slot starts the program anew: threads
crontabber[{NONCE}] slot 2026-06-03T10:00:00Z succeeded in 0.014 s
crontabber[{NONCE}] slot 2026-06-03T11:00:00Z begins
crontabber[another] slot 2026-06-03T11:00:00Z succeeded in 0.014 s
no endcrontabber[{NONCE}] slot 2026-06-03T11:00:00Z failed: exit code 3
"""


def test_progress_is_the_newest_slot_that_succeeded() -> None:
    """As far as the end of the output shows."""
    assert batches.read_progress(OUTPUT, NONCE) == Progress(
        AT, ("each slot starts the program anew: threads",)
    )
    assert batches.read_progress("", NONCE) == Progress(None)


def test_the_output_of_a_failure_is_that_of_its_slot() -> None:
    """Not of the slots before it, and without the markers."""
    assert batches.output_of_last_slot(OUTPUT, NONCE) == (
        "crontabber[another] slot 2026-06-03T11:00:00Z succeeded in 0.014 s\nno end\n"
    )
    assert batches.output_of_last_slot("as it is\nhere", NONCE) == "as it is\nhere"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"nonce":7}', "nonsense"])
def test_a_pod_without_a_plan_is_no_batch(text: str) -> None:
    """Whatever somebody wrote there."""
    assert batches.pod_nonce({"metadata": {"annotations": {"crontabber.dev/batch": text}}}) is None
    assert batches.pod_nonce({"metadata": {}}) is None
