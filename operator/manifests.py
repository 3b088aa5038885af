"""The CronJob and the Jobs that carry out a spec, as plain dicts for the API.

Pure: the same spec, pod template and settings always give the same manifest, so that a hash of it tells
whether anything has to be written. This module must not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from crontabber_operator import batches
from crontabber_operator.decision import NewRun, Release
from crontabber_operator.models import GROUP, INT32_MAX, KIND, VERSION, Defaults, InitContainerPolicy, Spec
from crontabber_operator.schedule import Frequency
from crontabber_operator.times import format_time

Manifest = dict[str, Any]

PREFIX = f"{GROUP}/"
JOB_LABEL = f"{PREFIX}job"
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "crontabber"
HASH = f"{PREFIX}hash"
TEMPLATE_HASH = f"{PREFIX}template-hash"
SLOT = f"{PREFIX}slot"
THROUGH = f"{PREFIX}through"
ATTEMPT = f"{PREFIX}attempt"
RUN_TIME = f"{PREFIX}run-time"
LAST_SUCCESS = f"{PREFIX}last-success"
CLAIMED = f"{PREFIX}claimed"
"""On a Job that the operator released: when it had been claimed, which tells its claim from a later one."""
RUN_NOW = f"{PREFIX}run-now"
TOLD = f"{PREFIX}told"
"""On a Job that was made by hand: how many of its failures were told."""
OUTPUT_TOLD = f"{PREFIX}output-told"
"""On a Job whose output was being told when the operator ended: how far."""
SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
QUEUE = "kueue.x-k8s.io/queue-name"
"""The label of Jobs that Kueue manages; where a LocalQueue is called default, it puts it on all."""
INSTANTIATE = "cronjob.kubernetes.io/instantiate"

NO_SETTINGS = Defaults()

CONTAINER = "crontabber"
"""The container of `template` that the command goes to."""

ATTEMPT_MAX = 99_999
"""The largest attempt that fits into a Job's name; after so many failures the numbers come again."""
HISTORY_RESERVE = 10
"""The CronJob keeps so many more finished Jobs than asked for: the operator prunes, after recording."""
UNSCHEDULED_RESERVE_SECONDS = 300
"""A gated Job ends so long after its pod's own deadline, should the pod never have come to a node."""

_POD_FIELDS = (
    "affinity",
    "automountServiceAccountToken",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "hostAliases",
    "hostNetwork",
    "hostUsers",
    "imagePullSecrets",
    "nodeName",
    "nodeSelector",
    "os",
    "overhead",
    "preemptionPolicy",
    "priorityClassName",
    "resourceClaims",
    "resources",
    "runtimeClassName",
    "schedulerName",
    "securityContext",
    "serviceAccountName",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
)
_CONTAINER_FIELDS = (
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "name",
    "resources",
    "securityContext",
    "volumeDevices",
    "volumeMounts",
    "workingDir",
)
_COPIED_LABELS = ("azure.workload.identity/use", "sidecar.istio.io/inject", "istio.io/rev")
_COPIED_ANNOTATIONS = (
    "sidecar.istio.io/",
    "proxy.istio.io/",
    "traffic.sidecar.istio.io/",
    "linkerd.io/",
    "config.linkerd.io/",
    "vault.hashicorp.com/",
    "azure.workload.identity/",
    "iam.amazonaws.com/",
    "container.apparmor.security.beta.kubernetes.io/",
)


class TemplateError(ValueError):
    """The pod template can't carry the command; the message names the field and the mend."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The resource that everything made for it belongs to."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The CronJob as it should be, and the hashes that tell whether it is."""

    manifest: Manifest
    hash: str
    template_hash: str


def plan(owner: Owner, spec: Spec, pod_template: Mapping[str, Any], defaults: Defaults = NO_SETTINGS) -> Plan:
    """Build the CronJob of `owner`. `pod_template` is the workload's own, or `spec.template`.

    Raises TemplateError.
    """
    spec = spec.filled(defaults)
    if spec.template is not None:
        template = _own_template(spec, pod_template)
    else:
        template = _workload_template(spec, pod_template)
    template = _finish_template(owner, spec, template)
    job_spec = _job_spec(spec, template)
    template_hash = _hash(job_spec)
    job_template: Manifest = {
        "metadata": {"labels": _labels(owner), "annotations": {TEMPLATE_HASH: template_hash}},
        "spec": job_spec,
    }
    cronjob_spec: Manifest = {
        **cron_fields(spec),
        "concurrencyPolicy": "Forbid",
        "suspend": spec.suspend,
        "successfulJobsHistoryLimit": spec.successful_jobs_history_limit + HISTORY_RESERVE,
        "failedJobsHistoryLimit": spec.failed_jobs_history_limit + HISTORY_RESERVE,
        "jobTemplate": job_template,
    }
    if spec.is_plain and spec.starting_deadline_seconds is not None:
        cronjob_spec["startingDeadlineSeconds"] = spec.starting_deadline_seconds
    whole_hash = _hash(cronjob_spec)
    manifest: Manifest = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {
            "name": owner.name,
            "namespace": owner.namespace,
            "labels": _labels(owner),
            "annotations": {HASH: whole_hash, TEMPLATE_HASH: template_hash},
            "ownerReferences": [{**owner_reference(owner), "controller": True}],
        },
        "spec": cronjob_spec,
    }
    return Plan(manifest=manifest, hash=whole_hash, template_hash=template_hash)


def cron_fields(spec: Spec) -> Manifest:
    """Return `schedule` and `timeZone` of the CronJob: cron text where there is one, else `@every`."""
    slots = spec.slots
    if isinstance(slots, Frequency):
        return {"schedule": slots.static_cron() or slots.every(), "timeZone": "Etc/UTC"}
    return {"schedule": spec.schedule, "timeZone": spec.time_zone or "Etc/UTC"}


def native_name(cronjob: str, slot: datetime) -> str:
    """Return the name that the CronJob controller gives the Job of a slot."""
    return f"{cronjob}-{int(slot.timestamp()) // 60}"


def one_off_name(owner: Owner, run: NewRun) -> str:
    """Name a one-off. The name is the lock: two operators can't both make this attempt."""
    return f"{owner.name}-{int(run.slot.timestamp()) // 60}-{run.attempt % (ATTEMPT_MAX + 1)}"


def one_off(owner: Owner, made: Plan, run: NewRun) -> Manifest:
    """Build the suspended Job for a missed slot or a further attempt.

    Its owner is the resource, not the CronJob, and without `controller: true`: the CronJob controller
    must not take it for its own (Forbid, history).
    """
    job_template = copy.deepcopy(made.manifest["spec"]["jobTemplate"])
    job_template["metadata"]["annotations"] |= {
        SLOT: format_time(run.slot),
        THROUGH: format_time(run.through),
        ATTEMPT: str(run.attempt),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": one_off_name(owner, run),
            "namespace": owner.namespace,
            "ownerReferences": [owner_reference(owner)],
            **job_template["metadata"],
        },
        "spec": job_template["spec"],
    }


def run_now(  # noqa: PLR0913 - each is a part of the manifest
    owner: Owner,
    made: Plan,
    name: str,
    *,
    extra_args: tuple[str, ...],
    run_time: str,
    last_success: str,
    at: str,
) -> Manifest:
    """Build the Job of a run-now: one attempt, at once, with further arguments, outside the bookkeeping."""
    job_template = copy.deepcopy(made.manifest["spec"]["jobTemplate"])
    pod_template = job_template["spec"]["template"]
    values = {SLOT: at, ATTEMPT: "1", RUN_TIME: run_time, LAST_SUCCESS: last_success}
    pod_template["metadata"]["annotations"] |= values
    container = command_container(pod_template["spec"]["containers"])
    container["args"] = [*container["args"], *extra_args]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "ownerReferences": [owner_reference(owner)],
            "labels": job_template["metadata"]["labels"],
            "annotations": {**job_template["metadata"]["annotations"], **values, RUN_NOW: "true"},
        },
        "spec": {**job_template["spec"], "suspend": False, "backoffLimit": 0},
    }


def release_patch(release: Release) -> list[Manifest]:
    """Build the one JSON patch that starts a run, if it is still the run that was claimed and never started.

    The `test` operations are the guard: another uid, or a run that was released before, refuses the patch
    whole. Unlike the resourceVersion they don't fail for what doesn't matter (the Job controller writes the
    Job's status right after it was made).
    """
    values = {
        SLOT: format_time(release.slot),
        ATTEMPT: str(release.attempt),
        RUN_TIME: release.run_time,
        LAST_SUCCESS: release.last_success,
    }
    claimed = {CLAIMED: format_time(release.claimed)} if release.claimed is not None else {}
    pod = "/spec/template/metadata/annotations/"
    pod_values = {**values, batches.BATCH: release.plan} if release.plan else values
    return [
        {"op": "test", "path": "/metadata/uid", "value": release.run.uid},
        {"op": "test", "path": "/spec/suspend", "value": True},
        {"op": "test", "path": pod + _pointer(RUN_TIME), "value": ""},
        *(
            {"op": "add", "path": "/metadata/annotations/" + _pointer(key), "value": value}
            for key, value in {**values, **claimed}.items()
        ),
        *({"op": "add", "path": pod + _pointer(key), "value": value} for key, value in pod_values.items()),
        {"op": "replace", "path": "/spec/suspend", "value": False},
    ]


def cronjob_patch(made: Plan, live_uid: str, live_metadata: Mapping[str, Any]) -> list[Manifest]:
    """Build the JSON patch that brings an existing CronJob to the plan, whatever others wrote into its spec.

    The spec is replaced whole: a server-side apply would leave fields that others added, and refuses
    duplicate names in `env`, which are legal in a Deployment.
    """
    metadata = made.manifest["metadata"]
    return [
        {"op": "test", "path": "/metadata/uid", "value": live_uid},
        {"op": "replace", "path": "/spec", "value": made.manifest["spec"]},
        *(
            {
                "op": "add",
                "path": f"/metadata/{part}",
                "value": {**(live_metadata.get(part) or {}), **metadata[part]},
            }
            for part in ("labels", "annotations")
        ),
    ]


# --- The pod --------------------------------------------------------------------------------------------


def _own_template(spec: Spec, pod_template: Mapping[str, Any]) -> Manifest:
    template = copy.deepcopy(dict(pod_template))
    containers = template.get("spec", {}).get("containers") or []
    if not containers:
        message = "spec.template: has no containers; give at least one, with an image."
        raise TemplateError(message)
    _give_command(spec, command_container(containers))
    return template


def command_container(containers: list[Manifest]) -> Manifest:
    """Return the container that runs the command: the one named `crontabber`, else the first."""
    return next((one for one in containers if one.get("name") == CONTAINER), containers[0])


def _workload_template(spec: Spec, pod_template: Mapping[str, Any]) -> Manifest:
    webapp = spec.webapp
    source = pod_template.get("spec") or {}
    containers = source.get("containers") or []
    wanted = webapp.container if webapp is not None else None
    found = next((one for one in containers if wanted is None or one.get("name") == wanted), None)
    if found is None:
        names = ", ".join(one.get("name", "?") for one in containers)
        message = (
            "spec.webapp.container (where it is absent, the operator's --webapp-container):"
            f" the workload has no container {wanted}; it has {names}."
        )
        raise TemplateError(message)
    container = {key: copy.deepcopy(found[key]) for key in _CONTAINER_FIELDS if key in found}
    _give_command(spec, container)
    policy = webapp.init_container_policy if webapp is not None else InitContainerPolicy.SIDECARS
    inits = [
        _plain_container(one)
        for one in source.get("initContainers") or []
        if policy is InitContainerPolicy.ALL
        or (policy is InitContainerPolicy.SIDECARS and one.get("restartPolicy") == "Always")
    ]
    pod: Manifest = {key: copy.deepcopy(source[key]) for key in _POD_FIELDS if key in source}
    pod["containers"] = [container]
    if inits:
        pod["initContainers"] = inits
    metadata = pod_template.get("metadata") or {}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key in _COPIED_LABELS}
    annotations = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith(_COPIED_ANNOTATIONS)
    }
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod}


def _plain_container(container: Mapping[str, Any]) -> Manifest:
    """An init container less what serves traffic; a sidecar keeps its start-up probe."""
    dropped = {"ports", "livenessProbe", "readinessProbe", "lifecycle", "resizePolicy"}
    if container.get("restartPolicy") != "Always":
        dropped.add("startupProbe")
    return {key: copy.deepcopy(value) for key, value in container.items() if key not in dropped}


def _give_command(spec: Spec, container: Manifest) -> None:
    """Set command and args. Kubernetes expands `$(RUN_TIME)`; nothing ever goes through a shell."""
    args = [spec.command, *spec.args]
    if spec.backfill and spec.run_time_argument:
        args.append(f"{spec.run_time_argument}=$(RUN_TIME)")
    if spec.pass_last_success and spec.last_success_argument:
        args.append(f"{spec.last_success_argument}=$(LAST_SUCCESS)")
    container.pop("command", None)
    if spec.manage_py:
        container["command"] = list(spec.manage_py)
    container["args"] = args
    container["env"] = _environment(spec, container.get("env") or [])
    container["terminationMessagePolicy"] = "FallbackToLogsOnError"
    container.pop("resizePolicy", None)


def _environment(spec: Spec, given: list[Manifest]) -> list[Manifest]:
    """Its own env, the last of each name, after run time and last success, which it may use."""
    env: dict[str, Manifest] = {}
    for one in given:
        env.pop(one["name"], None)
        env[one["name"]] = one
    ours: dict[str, Manifest] = {}
    if spec.is_gated:
        for name, annotation in (("RUN_TIME", RUN_TIME), ("LAST_SUCCESS", LAST_SUCCESS)):
            field_path = f"metadata.annotations['{annotation}']"
            ours[name] = {
                "name": name,
                "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": field_path}},
            }
    if "PYTHONUNBUFFERED" not in env:
        ours["PYTHONUNBUFFERED"] = {"name": "PYTHONUNBUFFERED", "value": "1"}
    return [*ours.values(), *(one for name, one in env.items() if name not in ours)]


def _finish_template(owner: Owner, spec: Spec, template: Manifest) -> Manifest:
    metadata = template.get("metadata") or {}
    ours = (SLOT, ATTEMPT, RUN_TIME, LAST_SUCCESS)
    # A template that was copied from a Job brings them along, and a plain job's runs would seem to be gated ones.
    annotations = {
        key: value for key, value in (metadata.get("annotations") or {}).items() if key not in ours
    }
    if spec.is_gated:
        # Empty until the release: the release patch tests for that, and an attempt can't be released twice.
        annotations |= dict.fromkeys(ours, "")
    pod: Manifest = {
        **template["spec"],
        "restartPolicy": "Never",
        "activeDeadlineSeconds": spec.active_deadline_seconds,
    }
    return {
        "metadata": {
            "labels": {**(metadata.get("labels") or {}), **_labels(owner)},
            "annotations": annotations,
        },
        "spec": pod,
    }


def _job_spec(spec: Spec, template: Manifest) -> Manifest:
    job_spec: Manifest = {
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
            ]
        },
        "template": template,
    }
    if spec.is_gated:
        deadline = spec.active_deadline_seconds + UNSCHEDULED_RESERVE_SECONDS
        return {**job_spec, "suspend": True, "backoffLimit": 0, "activeDeadlineSeconds": deadline}
    return {**job_spec, "backoffLimit": INT32_MAX if spec.retry_limit is None else spec.retry_limit}


def _labels(owner: Owner) -> dict[str, str]:
    return {JOB_LABEL: owner.name, MANAGED_BY: MANAGER}


def owner_reference(owner: Owner) -> Manifest:
    """Return what makes the garbage collector remove an object with the resource."""
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "name": owner.name, "uid": owner.uid}


def _hash(value: Manifest) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _pointer(key: str) -> str:
    """Escape a key for a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
