"""Specs, statuses and objects for the fuzz tests, made from the CRD's own schema."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from crontabber_operator.manifests import (
    ATTEMPT,
    INSTANTIATE,
    RUN_NOW,
    RUN_TIME,
    SCHEDULED,
    SLOT,
    THROUGH,
    TOLD,
)
from tests.fuzz.from_schema import NASTY, TIMES, Maker

CRD = Path(__file__).resolve().parents[2] / "crds" / "crontabberjobs.yaml"
IN_A_TEMPLATE = ("metadata", "spec")
Body = dict[str, Any]


@cache
def schema() -> Body:
    """Return the resource's schema."""
    crd = yaml.load(CRD.read_text(encoding="utf-8"), yaml.CSafeLoader)
    found: Body = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return found


def spec(maker: Maker, *, image: str = "app") -> Body:
    """Return a spec that is mostly valid: of what excludes each other, mostly one remains."""
    chance = maker.random
    fields = schema()["spec"]["properties"]
    made: Body = {"command": maker.value(fields["command"], "command")}
    plain = {key: part for key, part in fields.items() if key not in ("command", "template", "webapp")}
    for key, part in plain.items():
        if chance.random() < 0.25:
            made[key] = maker.value(part, key)
    if chance.random() < 0.95:
        _agree(maker, made, fields)
    if chance.random() < 0.8:
        made["template"] = template(maker, image=image)
    elif chance.random() < 0.5:
        made["webapp"] = maker.value(fields["webapp"], "webapp")
    return made


def _agree(maker: Maker, made: Body, fields: Body) -> None:
    """Mend what the rules between fields forbid."""
    if "schedule" in made and "frequency" in made:
        del made[maker.random.choice(("schedule", "frequency"))]
    if "schedule" not in made and "frequency" not in made:
        key = maker.random.choice(("schedule", "frequency"))
        made[key] = maker.value(fields[key], key)
    if "frequency" in made:
        made.pop("timeZone", None)
    if not str(made.get("frequency", "")).endswith("d"):
        made.pop("time", None)
    if made.get("backfill") is not True:
        for key in ("backfillSince", "backfillLimit", "backfillBatch"):
            made.pop(key, None)
    if "retryDelaySeconds" in made:
        made.pop("retryMaxDelaySeconds", None)


def template(maker: Maker, *, image: str) -> Body:
    """Return a pod template; now and then with anything else that its schema allows."""
    container: Body = {"name": maker.random.choice(("app", "crontabber")), "image": image}
    pod: Body = {"containers": [container]}
    made: Body = {"spec": pod}
    parts = schema()["spec"]["properties"]["template"]["properties"]
    if maker.random.random() < 0.3:
        inner = parts["spec"]["properties"]["containers"]["items"]["properties"]
        key = maker.random.choice(sorted(inner))
        container[key] = maker.value(inner[key], key, 2)
    if maker.random.random() < 0.3:
        key = maker.random.choice(sorted(parts["spec"]["properties"]))
        pod[key] = maker.value(parts["spec"]["properties"][key], key, 2)
    if maker.random.random() < 0.2:
        made["metadata"] = maker.value(parts["metadata"], "metadata", 1)
    return made


def status(maker: Maker) -> Body:
    """Return a status as somebody might write it by hand."""
    made: Body = maker.tame(schema()["status"], "status")
    return made


def annotations(maker: Maker) -> dict[str, str]:
    """Return commands, most of them nonsense."""
    values = (*NASTY, *TIMES, "now", "--day='24 Nov'", "'", "x" * 5000)
    names = ("mark-success", "reset", "run-now", "command-id", "unknown")
    return {
        f"crontabber.dev/{name}": maker.random.choice(values) for name in names if maker.random.random() < 0.3
    }


def job(maker: Maker, name: str, number: int) -> Body:
    """Return a Job of the resource `name`, with whatever people may have written on it."""
    chance = maker.random
    values = (*NASTY, *TIMES, "1", "99999999999", "-1", None, 7, "x" * 5000)
    keys = (SLOT, ATTEMPT, RUN_TIME, RUN_NOW, THROUGH, TOLD, SCHEDULED, INSTANTIATE)
    given = {key: chance.choice(values) for key in keys if chance.random() < 0.5}
    owner = chance.choice(
        (
            {"kind": "CrontabberJob", "name": name, "uid": "u"},
            {"kind": "CronJob", "name": name, "uid": "c", "controller": True},
            {},
        )
    )
    condition = {
        "type": chance.choice(("Complete", "Failed", "Suspended", None)),
        "status": chance.choice(("True", "False")),
        "lastTransitionTime": chance.choice((*TIMES, None)),
        "reason": chance.choice(("DeadlineExceeded", "", None)),
    }
    return {
        "metadata": {
            "name": f"{name}-{number}",
            "namespace": "ns",
            "uid": f"job-{number}",
            "resourceVersion": str(number),
            "creationTimestamp": chance.choice(("2026-11-23T08:00:00Z", "2026-11-24T07:59:59Z")),
            "labels": {"crontabber.dev/job": name},
            "annotations": chance.choice((given, None)),
            "ownerReferences": [owner],
        },
        "spec": {"suspend": chance.choice((True, False, None)), "template": chance.choice(({}, None))},
        "status": {
            "conditions": chance.choice(([condition], [], None)),
            "failed": chance.choice((0, 1, 2**31 - 1, None)),
            "active": chance.choice((0, 1, None)),
            "startTime": chance.choice((*TIMES, None)),
            "completionTime": chance.choice((*TIMES, None)),
        },
    }


def cronjob(maker: Maker, name: str) -> Body:
    """Return the CronJob of a resource, edited by somebody."""
    chance = maker.random
    return {
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": "c",
            "resourceVersion": "4",
            "creationTimestamp": "2026-11-20T08:00:00Z",
            "ownerReferences": chance.choice(
                ([{"kind": "CrontabberJob", "name": name, "uid": "u", "controller": True}], [], None)
            ),
            "annotations": chance.choice((None, {"crontabber.dev/hash": chance.choice(NASTY)})),
            "managedFields": chance.choice((None, [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}])),
        },
        "spec": {
            "schedule": chance.choice(
                ("0 5 * * *", "@every 1h30m", "@every 45m", "nonsense", "", "TZ=UTC 0 0 * * *")
            ),
            "timeZone": chance.choice((None, "Europe/Berlin", "Mars/Olympus")),
            "suspend": chance.choice((True, False, None)),
            "jobTemplate": chance.choice(({}, {"spec": {"suspend": True}})),
        },
        "status": {
            "lastScheduleTime": chance.choice((*TIMES, None)),
            "lastSuccessfulTime": chance.choice((*TIMES, None)),
        },
    }
