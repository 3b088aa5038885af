"""What a resource's spec asks for, from its template or its workload's, and what of it was refused.

The plan is built anew where it is written, and only its hashes are kept: ten thousand pod templates would
fill the memory. Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from crontabber_operator import batches
from crontabber_operator.cluster import ApiError
from crontabber_operator.delays import doubled
from crontabber_operator.manifests import Plan, TemplateError, plan
from crontabber_operator.memory import Memory, Refusal
from crontabber_operator.models import Spec, WebApp
from crontabber_operator.observed import Desired, Unavailable
from crontabber_operator.projection import schedule_key
from crontabber_operator.settings import Settings
from crontabber_operator.store import Key, Resource
from crontabber_operator.templates import Template, Templates

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 120.0


class Planner:
    """Makes plans from specs and templates."""

    def __init__(self, templates: Templates, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._templates = templates
        self._settings = settings
        self._clock = clock

    async def plan(self, resource: Resource, spec: Spec) -> Plan | Unavailable:
        """Return the CronJob that the spec asks for, or why there can be none just now."""
        if spec.template is not None:
            body: Mapping[str, Any] = spec.template
        else:
            template = await self._template(resource, spec)
            if isinstance(template, Unavailable):
                return template
            body = template.body
        try:
            return plan(resource.owner, spec, body, self._settings.defaults)
        except TemplateError as error:
            return Unavailable("InvalidTemplate", str(error), stalled=True)

    async def desired(self, resource: Resource, spec: Spec, memory: Memory) -> Desired | Unavailable:
        """What the core compares; the plan itself is built again where it is written, to save memory."""
        version = "own"
        if spec.template is None:
            template = await self._template(resource, spec)
            version = template.version if isinstance(template, Template) else template.reason
        fingerprint = resource.generation, version
        if memory.desired is None or memory.desired[0] != fingerprint:
            made = await self.plan(resource, spec)
            memory.desired = fingerprint, made if isinstance(made, Unavailable) else _reduce(made)
        desired = memory.desired[1]
        refusal = memory.refusal
        if isinstance(desired, Desired) and refusal is not None:
            left = (refusal.retry_at - self._clock()).total_seconds()
            if refusal.hash == desired.hash and 0 < left <= LONGEST_DELAY_SECONDS:  # a clock may be put back
                return refusal.told
            if refusal.hash != desired.hash:
                memory.refusal = None
        return desired

    async def _template(self, resource: Resource, spec: Spec) -> Template | Unavailable:
        webapp = spec.filled(self._settings.defaults).webapp or WebApp()
        key = Key.of(resource.owner)
        return await self._templates.find(Key(key.namespace, webapp.name or ""), key)

    def why_no_batch(self, spec: Spec) -> str | None:
        """Say why missed slots can't share a Job although the spec asks for that; None: they can."""
        return batches.why_not(spec, spec.filled(self._settings.defaults).manage_py or ())

    def refused(self, memory: Memory, made: Plan, error: ApiError) -> None:
        """Tell a refusal that the same request would meet again, and try again later; raise all others.

        A quota, a permission or an admission webhook may change without anything here changing.
        """
        if error.transient or error.status in (404, 409):
            raise error
        known = memory.refusal
        count = known.count + 1 if known is not None and known.hash == made.hash else 1
        delay = doubled(FIRST_DELAY_SECONDS, count, LONGEST_DELAY_SECONDS)
        is_invalid = error.status in (400, 422) and not error.denied
        memory.refusal = Refusal(
            hash=made.hash,
            told=Unavailable(
                "InvalidTemplate" if is_invalid else "Refused",
                f"The API server refused: {error.message}",
                stalled=is_invalid,
            ),
            count=count,
            retry_at=self._clock() + timedelta(seconds=delay),
        )


def _reduce(made: Plan) -> Desired:
    return Desired(
        hash=made.hash, template_hash=made.template_hash, schedule=schedule_key(made.manifest["spec"])
    )
