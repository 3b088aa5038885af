"""People who use the system while it is disturbed: each of their acts is one request, drawn from the seed.

All that they write has the field manager `person`, by which the checker knows it.
"""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import urllib3

from tests.chaos.cast import Part
from tests.chaos.checker import PERSON, PREFIX
from tests.chaos.dice import Bag, Tally
from tests.integration.testbed import JSON_PATCH, MERGE_PATCH, PATHS, Api, ApiError, written

Body = dict[str, Any]

A_PERSON = "a person "
PAUSE_SECONDS = (0.1, 0.9)
MISSED_SLOTS = (2, 12)


class People:
    """Acts on the resources of one namespace, in a thread of its own between `begin` and `stop`."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        parts: Mapping[str, Part],
        make: Callable[[str, Mapping[str, str]], Body],
        seed: str,
        tally: Tally,
    ) -> None:
        """`parts`: by the resource's name; `make` returns a resource's manifest, with these annotations."""
        self._api = api
        self._namespace = namespace
        self._parts = dict(parts)
        self._make = make
        self._dice = random.Random(f"{seed} people")
        self._tally = tally
        self._count = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._live, name="people", daemon=True)
        self._acts: dict[str, Callable[[str], object]] = {
            "marks success in the past": self._mark_past,
            "marks success now": lambda name: self._annotate(name, "mark-success", "now"),
            "resets": lambda name: self._annotate(name, "reset", ""),
            "runs now": lambda name: self._annotate(name, "run-now", "--extra=1"),
            "edits the schedule": self._edit_schedule,
            "edits the template": self._edit_template,
            "suspends the resource": lambda name: self._edit(name, {"suspend": True}),
            "resumes the resource": lambda name: self._edit(name, {"suspend": False}),
            "deletes and makes it anew": self._make_anew,
            "deletes a Job": self._delete_job,
            "deletes the CronJob": lambda name: self._delete("cronjobs", name),
            "deletes a pod": self._delete_pod,
            "suspends a Job": self._suspend_job,
            "resumes a Job": self._resume_job,
            "starts a Job that waits": self._start_job,
            "makes a Job from the CronJob": self._from_cronjob,
            "edits the status": self._edit_status,
        }
        self._bag = Bag(f"{seed} acts", list(self._acts))
        self._suspended: list[str] = []

    @property
    def kinds(self) -> list[str]:
        """All that they do, as it is counted."""
        return [f"{A_PERSON}{act}" for act in self._acts]

    def begin(self) -> None:
        """Start."""
        self._thread.start()

    def stop(self) -> None:
        """Do nothing more; then mend what only people can: resume what they suspended."""
        self._stopped.set()
        self._thread.join()
        for name in self._parts:
            self._retry(functools.partial(self._edit, name, {"suspend": False}))
        for name in self._suspended:
            self._retry(functools.partial(self._patch, "jobs", name, {"spec": {"suspend": False}}))

    def make_all(self) -> None:
        """Make all resources, each with slots that it missed."""
        for name in self._parts:
            self._retry(functools.partial(self._create, name, {PREFIX + "mark-success": self._past(name)}))

    def _live(self) -> None:
        while not self._stopped.wait(self._dice.uniform(*PAUSE_SECONDS)):
            act = self._bag.take()
            name = self._dice.choice(list(self._parts))
            try:
                self._acts[act](name)
            except (ApiError, urllib3.exceptions.HTTPError, OSError, LookupError, ValueError):
                self._tally.add("people: in vain")
            else:
                self._tally.add(f"{A_PERSON}{act}")

    def _retry(self, act: Callable[[], object]) -> None:
        """Do what has to be done, as soon as the API server lets it."""
        for _ in range(100):
            try:
                act()
            except ApiError as error:
                if error.status in (404, 409):
                    return
            except (urllib3.exceptions.HTTPError, OSError):
                pass
            else:
                return
            threading.Event().wait(0.3)

    # --- Acts ----------------------------------------------------------------------------------------------

    def _mark_past(self, name: str) -> None:
        self._annotate(name, "mark-success", self._past(name))

    def _past(self, name: str) -> str:
        minutes = self._parts[name].period_minutes * self._dice.randint(*MISSED_SLOTS)
        return written(datetime.now(UTC) - timedelta(minutes=minutes))

    def _annotate(self, name: str, command: str, value: str) -> None:
        annotations = {PREFIX + command: value}
        if self._dice.random() < 0.5:
            self._count += 1
            annotations[PREFIX + "command-id"] = f"by-hand-{self._count}"
        self._patch("crontabberjobs", name, {"metadata": {"annotations": annotations}})

    def _edit(self, name: str, spec: Body) -> None:
        self._patch("crontabberjobs", name, {"spec": spec})

    def _edit_schedule(self, name: str) -> None:
        text = self._dice.choice(self._parts[name].schedules)
        self._edit(name, Part.scheduled(text))

    def _edit_template(self, name: str) -> None:
        spec = self._get("crontabberjobs", name)["spec"]
        env = spec["template"]["spec"]["containers"][0]["env"]
        version = next(one for one in env if one["name"] == "VERSION")
        version["value"] = str(self._dice.randint(1, 3))
        self._edit(name, {"template": spec["template"]})

    def _make_anew(self, name: str) -> None:
        self._delete("crontabberjobs", name)
        annotations = {PREFIX + "mark-success": self._past(name)} if self._dice.random() < 0.5 else {}
        self._retry(lambda: self._create(name, annotations))

    def _delete_job(self, name: str) -> None:
        job = self._dice.choice(self._objects("jobs", name))["metadata"]["name"]
        self._delete("jobs", job, self._dice.choice(["Background", "Foreground"]))

    def _delete_pod(self, name: str) -> None:
        self._delete("pods", self._dice.choice(self._objects("pods", name))["metadata"]["name"])

    def _suspend_job(self, name: str) -> None:
        going = [
            one for one in self._objects("jobs", name) if not one["spec"].get("suspend") and _goes_on(one)
        ]
        job = self._dice.choice(going)["metadata"]["name"]
        self._patch("jobs", job, {"spec": {"suspend": True}})
        self._suspended.append(job)

    def _resume_job(self, _: str) -> None:
        job = self._suspended.pop(self._dice.randrange(len(self._suspended)))
        self._patch("jobs", job, {"spec": {"suspend": False}})

    def _start_job(self, name: str) -> None:
        waiting = [one for one in self._objects("jobs", name) if one["spec"].get("suspend")]
        self._patch("jobs", self._dice.choice(waiting)["metadata"]["name"], {"spec": {"suspend": False}})

    def _from_cronjob(self, name: str) -> None:
        cronjob = self._get("cronjobs", name)
        template = cronjob["spec"]["jobTemplate"]
        self._count += 1
        owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": name, "controller": True}
        annotations = {
            **(template["metadata"].get("annotations") or {}),
            "cronjob.kubernetes.io/instantiate": "manual",
        }
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": f"{name}-by-hand-{self._count}",
                "labels": template["metadata"]["labels"],
                "annotations": annotations,
                "ownerReferences": [{**owner, "uid": cronjob["metadata"]["uid"]}],
            },
            "spec": template["spec"],
        }
        self._request("POST", self._path("jobs"), job)

    def _edit_status(self, name: str) -> None:
        """Edit it, and say so in a field that nothing depends on, so that the edit is on record."""
        self._count += 1
        edits: list[Body] = [
            {},
            {"settledThrough": self._past(name)},
            {"ongoing": None},
            {"errorCount": 7, "lastError": None},
            {"history": []},
            {"missed": 99, "state": "Waiting", "nextRunTime": None},
        ]
        edit = self._dice.choice(edits)
        status = {**edit, "schedule": f"by hand {self._count}"}
        if edit:
            self._patch("crontabberjobs", name, {"status": status}, "status")
            return
        everything = [{"op": "add", "path": "/status", "value": status}]
        path = self._path("crontabberjobs", name, "status")
        self._request("PATCH", path, everything, JSON_PATCH)

    # --- Requests ------------------------------------------------------------------------------------------

    def _path(self, plural: str, *rest: str) -> str:
        return "/".join([PATHS[plural], "namespaces", self._namespace, plural, *rest])

    def _request(self, method: str, path: str, body: object = None, kind: str = "application/json") -> Body:
        return self._api.request(method, f"{path}?fieldManager={PERSON}", body, kind)

    def _get(self, plural: str, name: str) -> Body:
        return self._api.request("GET", self._path(plural, name))

    def _objects(self, plural: str, name: str) -> list[Body]:
        selector = f"labelSelector={PREFIX}job%3D{name}"
        items: list[Body] = self._api.request("GET", f"{self._path(plural)}?{selector}").get("items") or []
        return sorted(items, key=lambda one: one["metadata"]["name"])

    def _create(self, name: str, annotations: Mapping[str, str]) -> None:
        self._request("POST", self._path("crontabberjobs"), self._make(name, annotations))

    def _patch(self, plural: str, name: str, patch: Body, *rest: str) -> None:
        self._request("PATCH", self._path(plural, name, *rest), patch, MERGE_PATCH)

    def _delete(self, plural: str, name: str, policy: str = "Background") -> None:
        self._api.request("DELETE", self._path(plural, name), {"propagationPolicy": policy})


def _goes_on(job: Body) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    return not any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)
