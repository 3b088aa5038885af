"""The CrontabberJobs of a run: all kinds, with commands that fail, hang, are slow, die and print megabytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Body = dict[str, Any]

FAST = {"retryDelaySeconds": 1, "retryMaxDelaySeconds": 4}
GATED = {"backfill": True, **FAST}


@dataclass(frozen=True)
class Part:
    """One kind of job."""

    name: str
    spec: Mapping[str, Any]
    schedules: tuple[str, ...] = ("* * * * *", "*/2 * * * *", "1-59/2 * * * *")
    """What people edit its schedule to; the first is the one it begins with."""
    behaviour: Mapping[str, float] = field(default_factory=dict)
    is_stubborn: bool = False
    """Its commands end when they like, not when they are asked to."""

    def manifest(self, number: int, seed: str, folder: Path, annotations: Mapping[str, str] = {}) -> Body:
        """Return the resource. `number`: there may be several of this kind; `folder`: for the commands' evidence."""
        name = f"{self.name}-{number}"
        return {
            "apiVersion": "crontabber.dev/v1",
            "kind": "CrontabberJob",
            "metadata": {"name": name, "annotations": dict(annotations)},
            "spec": {
                "command": "record",
                **self.scheduled(self.schedules[0]),
                **_numbered(self.spec, number),
                "template": self._template(name, seed, folder),
            },
        }

    @staticmethod
    def scheduled(text: str) -> Body:
        """Return the fields of a schedule or a frequency."""
        return {"schedule": text} if " " in text else {"frequency": text}

    def _template(self, name: str, seed: str, folder: Path) -> Body:
        values = {
            "JOB": name,
            "EVIDENCE": str(folder),
            "BEHAVIOUR": json.dumps({"seed": seed, **self.behaviour}, sort_keys=True),
            "STUBBORN": "1" if self.is_stubborn else "",
            "PYTHONDONTWRITEBYTECODE": "1",
            "VERSION": "1",
        }
        uid = {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/controller-uid']"}}
        env: list[Body] = [{"name": key, "value": value} for key, value in values.items()]
        env.append({"name": "JOB_UID", "valueFrom": uid})
        container = {"name": "app", "image": "app", "env": env}
        grace_seconds = 20 if self.is_stubborn else 1
        return {"spec": {"containers": [container], "terminationGracePeriodSeconds": grace_seconds}}

    @property
    def period_minutes(self) -> int:
        """Return roughly how far its slots are apart."""
        text = self.schedules[0]
        return int(text[:-1]) if text.endswith("m") else 1


PARTS = (
    Part("backfill", GATED),
    Part("backfill-fails", {**GATED, "passLastSuccess": True}, behaviour={"fail": 0.3}),
    Part("backfill-slow", GATED, behaviour={"slow": 0.3}),
    Part("backfill-hangs", {**GATED, "activeDeadlineSeconds": 5}, behaviour={"hang": 0.15}),
    Part("backfill-stubborn", GATED, behaviour={"slow": 0.5}, is_stubborn=True),
    Part("backfill-noisy", GATED, behaviour={"noise": 0.2, "fail": 0.1}),
    Part("backfill-dies", {**GATED, "passLastSuccess": True}, behaviour={"die": 0.2}),
    Part("backfill-grid", GATED, ("2m", "3m", "1m")),
    Part("backfill-rolling", {**GATED, "passLastSuccess": True}, ("7m", "7m")),
    Part("backfill-limited", {**GATED, "backfillLimit": 5}, behaviour={"fail": 0.1}),
    Part(
        "backfill-batch",
        {**GATED, "backfillBatch": 5, "passLastSuccess": True},
        behaviour={"fail": 0.08, "die": 0.04, "slow": 0.2},
    ),
    Part("last-success", {"passLastSuccess": True, **FAST}, behaviour={"fail": 0.2}),
    Part("gated", FAST, behaviour={"slow": 0.2, "die": 0.1}),
    Part("plain", {}),
    Part("plain-fails", {}, behaviour={"fail": 0.2}),
    Part("plain-slow", {}, behaviour={"slow": 0.7}),
    Part("plain-rolling", {}, ("7m", "7m")),
    Part("group-one", {**GATED, "concurrencyGroup": "group-{number}"}),
    Part("group-two", {**GATED, "concurrencyGroup": "group-{number}"}),
    Part("needed", GATED, behaviour={"fail": 0.1}),
    Part("depending", {**GATED, "dependsOn": [{"name": "needed-{number}"}]}),
)


def _numbered(spec: Mapping[str, Any], number: int) -> Body:
    """Have jobs of one number refer to each other."""
    filled: Body = json.loads(json.dumps(dict(spec)).replace("{number}", str(number)))
    return filled
