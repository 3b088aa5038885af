"""Resources made from the CRD's own schema: none crashes the operator, has it retry hot, or is left without a word.

`make fuzz RESOURCES=10000 SEED=…`; without them there are few, always the same.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crontabber_operator.models import InvalidSpec, Spec
from devcluster import Cluster
from tests.fuzz import specs
from tests.fuzz.conftest import PREFIX
from tests.fuzz.from_schema import Maker
from tests.integration.operator_process import OperatorProcess
from tests.integration.testbed import Api, ApiError

RESOURCES = int(os.environ.get("CRONTABBER_FUZZ_RESOURCES", "300"))
SEED = os.environ.get("CRONTABBER_FUZZ_SEED", "1")
IN_A_NAMESPACE = 250
SETTLES_WITHIN_SECONDS = 60 + RESOURCES / 10
WRITERS = 8
REQUESTS_MAX = 60
"""Of the operator, for one resource, its Jobs aside: far less than a retry each second."""
REQUESTS_FOR_A_JOB_MAX = 8
NEVER_LOGGED = ("Traceback", "unexpected error", "never awaited", "Task was destroyed")
COLLECTION = "/apis/crontabber.dev/v1"

Body = dict[str, Any]


@dataclass(frozen=True)
class Sent:
    """A resource that was sent to the API server."""

    namespace: str
    name: str
    body: Body
    refusal: str | None


def _path(namespace: str, name: str = "") -> str:
    return f"{COLLECTION}/namespaces/{namespace}/crontabberjobs/{name}".rstrip("/")


def _make(number: int) -> tuple[str, str, Body]:
    maker = Maker(f"{SEED} {number}", wildness=0.03)
    namespace = f"{PREFIX}-{number // IN_A_NAMESPACE}"
    name = f"job-{number}" + ("-" + "x" * 42)[: 48 - len(f"job-{number}")] * (number % 10 == 0)
    metadata: Body = {"name": name}
    if maker.random.random() < 0.3:
        metadata["annotations"] = specs.annotations(maker)
    return (
        namespace,
        name,
        {
            "apiVersion": "crontabber.dev/v1",
            "kind": "CrontabberJob",
            "metadata": metadata,
            "spec": specs.spec(maker),
        },
    )


def _send(api: Api, number: int) -> Sent:
    namespace, name, body = _make(number)
    try:
        api.request("POST", _path(namespace), body)
    except ApiError as error:
        if error.status not in (400, 422):
            raise
        return Sent(namespace, name, body, str(error))
    chance = Maker(f"{SEED} hand {number}")
    if chance.random.random() < 0.3:
        # As people do it who know better; what the schema refuses was worth a try.
        try:
            status = specs.status(Maker(f"{SEED} status {number}", wildness=0.02))
            api.request(
                "PATCH",
                _path(namespace, name) + "/status",
                {"status": status},
                "application/merge-patch+json",
            )
        except ApiError as error:
            if error.status not in (400, 422):
                raise
    return Sent(namespace, name, body, None)


def _each(work: Callable[[int], Sent]) -> list[Sent]:
    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(work, range(RESOURCES)))


def _resources(api: Api) -> Iterator[Body]:
    for number in range((RESOURCES - 1) // IN_A_NAMESPACE + 1):
        yield from api.request("GET", _path(f"{PREFIX}-{number}")).get("items") or []


def _condition(resource: Body, kind: str) -> Body:
    conditions = (resource.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == kind), {})


def _is_told(resource: Body) -> bool:
    ready = _condition(resource, "Ready")
    return (
        ready.get("status") in ("True", "False")
        and bool(ready.get("reason"))
        and ready.get("observedGeneration") == resource["metadata"]["generation"]
    )


@pytest.mark.timeout(300 + 2 * SETTLES_WITHIN_SECONDS)
def test_every_accepted_resource_ends_in_a_condition(
    fuzz_cluster: Cluster, fuzz_api: Api, fuzz_operator: OperatorProcess
) -> None:
    """And the API server and the models agree on what is accepted."""
    for number in range((RESOURCES - 1) // IN_A_NAMESPACE + 1):
        fuzz_api.request("POST", "/api/v1/namespaces", {"metadata": {"name": f"{PREFIX}-{number}"}})
    sent = _each(lambda number: _send(fuzz_api, number))
    accepted = [one for one in sent if one.refusal is None]
    print(f"seed {SEED}: {len(accepted)} of {len(sent)} accepted")  # noqa: T201 - what a failure is repeated with
    assert len(accepted) > RESOURCES / 3
    _agree(sent)
    untold = _wait_until_told(fuzz_api, fuzz_operator, len(accepted))
    assert not untold, f"{json.dumps(untold[0])}\n{fuzz_operator.log_tail()}"
    resources = list(_resources(fuzz_api))
    _are_as_told(resources)
    log = fuzz_operator.own_log()
    assert fuzz_operator.runs, log[-5000:]
    assert not [line for line in log.splitlines() if any(words in line for words in NEVER_LOGGED)], log[
        -20000:
    ]
    _are_not_hot(fuzz_cluster.audit_log, resources)


def _wait_until_told(api: Api, operator: OperatorProcess, count: int) -> list[Body]:
    deadline = time.monotonic() + SETTLES_WITHIN_SECONDS
    while True:
        resources = list(_resources(api))
        assert len(resources) == count
        untold = [one for one in resources if not _is_told(one)]
        if not untold or time.monotonic() > deadline or not operator.runs:
            return untold
        time.sleep(1 + count / 1000)


def _agree(sent: list[Sent]) -> None:
    """What the API server refuses, the models refuse, as far as they know of it.

    A pod template they don't read, and 0 for false they do: in a file that `crontabber run-local` is given.
    """
    for one in sent:
        if one.refusal is None or "spec.template" in one.refusal or "must be of type" in one.refusal:
            continue
        assert _mistakes(one.body["spec"], one.name), f"only the API server refuses {one}"


def _mistakes(spec: object, name: str) -> tuple[str, ...]:
    try:
        Spec.read(spec, name=name)
    except InvalidSpec as error:
        return error.sentences
    return ()


def _are_as_told(resources: list[Body]) -> None:
    """What the models don't accept is told as Invalid, and what they do is not."""
    for resource in resources:
        ready = _condition(resource, "Ready")
        mistakes = _mistakes(resource["spec"], resource["metadata"]["name"])
        assert (ready["reason"] == "Invalid") == bool(mistakes), resource
        assert not mistakes or mistakes[0][:200] in ready["message"], resource
        assert ready["message"], resource
        assert (ready["status"] == "False") == (ready["reason"] != "Scheduled"), resource


def _are_not_hot(audit_log: Path, resources: list[Body]) -> None:
    """Count the operator's requests for each resource, against those that its Jobs may cost."""
    requests: Counter[tuple[str, str]] = Counter()
    jobs: Counter[tuple[str, str]] = Counter()
    names = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in resources}
    with audit_log.open(encoding="utf-8") as lines:
        for line in lines:
            if f'"namespace":"{PREFIX}-' not in line:
                continue
            entry = json.loads(line)
            what = entry["objectRef"]
            key = what["namespace"], _owner(what.get("name", ""))
            if entry.get("userAgent") == "crontabber" and key in names:
                requests[key] += 1
            elif what["resource"] == "jobs" and entry["verb"] == "patch" and key in names:
                jobs[key] += 1
    hot = {
        key: (count, jobs[key])
        for key, count in requests.items()
        if count > REQUESTS_MAX + REQUESTS_FOR_A_JOB_MAX * jobs[key]
    }
    print("most requests:", requests.most_common(5))  # noqa: T201 - shown where it fails
    assert not hot, hot


def _owner(name: str) -> str:
    """Return the name of the resource that an object's name begins with: job-17, job-17-29712345-2."""
    parts = name.split("-")
    long = parts[2:3] if len(parts) > 2 and parts[2].startswith("x") else []
    return "-".join(parts[:2] + long)
