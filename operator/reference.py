"""docs/reference.md, made from the CRD: each field, annotation and column as `kubectl explain` has it.

`crontabber crd --reference` prints it. What a field means is written in models.py alone.

This module must not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crontabber_operator.spec_rules import NAME_MAX_LENGTH, RULES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Schema = dict[str, Any]

_TYPES = {"string": "text", "boolean": "true or false", "number": "number", "object": "mapping"}

_DOCUMENT = """\
# Reference

<!-- Written by `crontabber crd --reference`. Don't edit: change operator/models.py and run `make crd`. -->

`apiVersion: {api_version}`, `kind: {kind}`; `kubectl get {short_name}`. `kubectl explain {short_name}.spec`
shows the same fields. A resource's name has at most {name_max_length} characters, so that the names of its
Jobs fit. No field has a default in the schema: what is absent stays absent. Times are RFC 3339.

## spec

{spec}

Fields that go together, or don't; the API server refuses the rest:

{rules}
- `dependsOn`: can't have the job itself in it.

### Plain and gated

A job is plain, and runs also while the operator is down, unless it has `backfill`, `passLastSuccess`,
`dependsOn`, `concurrencyGroup`, `retryDelaySeconds` or `retryMaxDelaySeconds`, `$(RUN_TIME)` or
`$(LAST_SUCCESS)` in `args`, or `startingDeadlineSeconds` with a `frequency`: then it is gated, and the
operator releases each run.

### Invalid

What the API server can't check (a range such as 5-1 in a schedule, whether a time zone exists, whether a pod
can be made from a template) makes the state `Invalid`; the condition `Stalled` says why.

## status

{status}

## Columns

{columns}

## Annotations that are commands

The operator does what they say, tells it in an Event and in `status.lastCommands`, and removes them.

| Annotation | Value | Effect |
|---|---|---|
| `crontabber.dev/mark-success` | empty, `now`, or a time such as `2026-11-24T08:00:00Z` | {mark_success} |
| `crontabber.dev/reset` | empty | {reset} |
| `crontabber.dev/run-now` | empty, or further arguments in shell quoting: `--days=3 --dry-run` | {run_now} |
| `crontabber.dev/command-id` | any text | {command_id} |

## Labels and annotations on what is made

| Kind | Key | On | Value |
|---|---|---|---|
| label | `crontabber.dev/job` | CronJob, Jobs, pods | The name of the CrontabberJob. |
| label | `app.kubernetes.io/managed-by` | CronJob, Jobs, pods | `crontabber`. |
| annotation | `crontabber.dev/slot` | Jobs, pods | The slot, RFC 3339. |
| annotation | `crontabber.dev/attempt` | Jobs, pods | Which attempt at the slot it is, from 1. |
| annotation | `crontabber.dev/claimed` | Jobs | When it was claimed (`status.ongoing.since`). |
| annotation | `crontabber.dev/run-time` | Jobs, pods | The run time as the command gets it. |
| annotation | `crontabber.dev/last-success` | Jobs, pods | The last success as the command gets it. |
"""
_EFFECTS = {
    "mark_success": "The last success is that time, and the error state is cleared. A time in the past"
    " makes the slots since then missed, so they run again; a time in the future is refused.",
    "reset": "All bookkeeping is forgotten, as if the job had never run. A run that goes on is left to end"
    " and is not counted; earlier slots are not run.",
    "run_now": "One Job at once, whose run time is now. The bookkeeping doesn't change.",
    "command_id": "Beside one of the above: a command with an id that was done before is not done again.",
}


def reference(definition: Mapping[str, Any], descriptions: Mapping[str, str]) -> str:
    """Return the document. `descriptions` say what a column shows, by its name."""
    (version,) = definition["spec"]["versions"]
    names = definition["spec"]["names"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]
    fields = ("Field", "Type", "Meaning")
    columns = (
        (
            f"`{column['name'].upper()}`",
            descriptions[column["name"]],
            f"`{column['jsonPath']}`",
            "`-o wide`" if column.get("priority") else "",
        )
        for column in version["additionalPrinterColumns"]
    )
    return _DOCUMENT.format(
        api_version=f"{definition['spec']['group']}/{version['name']}",
        kind=names["kind"],
        short_name=names["shortNames"][0],
        name_max_length=NAME_MAX_LENGTH,
        spec=_table(fields, _rows(schema["spec"])),
        rules="\n".join(f"- `{rule.field}`: {_markdown(rule.sentence)}." for rule in RULES),
        status=_table(fields, _rows(schema["status"], is_status=True)),
        columns=_table(("Column", "Shows", "From", "With"), columns),
        **_EFFECTS,
    )


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'|'.join('---' for _ in header)}|"]
    lines += (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
    return "\n".join(lines)


def _rows(schema: Schema, prefix: str = "", *, is_status: bool = False) -> Iterator[tuple[str, str, str]]:
    for name, field in schema["properties"].items():
        path = f"{prefix}{name}"
        required = ", required" if name in schema.get("required", ()) and not is_status else ""
        yield f"`{path}`", _type(field) + required, _markdown(field["description"])
        if name == "template":
            continue
        inner = field.get("items", field)
        if "properties" in inner:
            yield from _rows(inner, f"{path}[]." if "items" in field else f"{path}.", is_status=is_status)


def _type(field: Schema) -> str:
    if name := field.get("enum"):
        return ", ".join(f"`{word}`" for word in name)
    if field["type"] == "array":
        return f"list of {_type(field['items'])}s"
    if field["type"] == "integer":
        low, high = field.get("minimum"), field.get("maximum")
        limits = f" from {low}" if low is not None else ""
        return f"whole number{limits}" + (f" to {high}" if high is not None else "")
    if field.get("format") == "date-time":
        return "time"
    return _TYPES[field["type"]]


def _markdown(text: str) -> str:
    # An asterisk would be emphasis, a $( maths.
    return text.replace("*", "\\*").replace("$", "\\$")
