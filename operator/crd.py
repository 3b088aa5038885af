"""The CustomResourceDefinition, made from models.py: structural, described, with CEL rules.

`crontabber crd` prints it; crds/crontabberjobs.yaml is its output. The schema of `spec.template` comes from
Kubernetes' own OpenAPI, kept as pod_template.json beside this file so that nothing here needs a cluster.
No field of the spec has a default in the schema: a stored spec stays what the user wrote, so that a field's absence
keeps its meaning (plain or gated) and a later version may choose another default.

This module must not import kopf or kubernetes, or read a clock.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import TypeAdapter

from crontabber_operator.forms import cel_rule, cel_text
from crontabber_operator.models import GROUP, INT32_MAX, KIND, NOT_SEEN, PLURAL, VERSION, Spec, Status
from crontabber_operator.reference import reference
from crontabber_operator.spec_rules import NAME_MAX_LENGTH, RULES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

Schema = dict[str, Any]

POD_TEMPLATE_PATH = Path(__file__).with_name("pod_template.json")

COLUMNS: tuple[Schema, ...] = (
    {"name": "Schedule", "type": "string", "jsonPath": ".status.schedule"},
    {"name": "State", "type": "string", "jsonPath": ".status.state"},
    {"name": "Last Success", "type": "date", "jsonPath": ".status.lastSuccessTime"},
    # A string: a column of type date shows a time in the future as <invalid>.
    {"name": "Next Run", "type": "string", "jsonPath": ".status.nextRunTime"},
    {"name": "Missed", "type": "integer", "jsonPath": ".status.missed"},
    {"name": "Errors", "type": "integer", "jsonPath": ".status.errorCount"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {"name": "Command", "type": "string", "jsonPath": ".spec.command", "priority": 1},
    {
        "name": "Last Run",
        "type": "date",
        "jsonPath": ".status.lastRunTime",
        "priority": 1,
    },
    {
        "name": "Last Error",
        "type": "string",
        "jsonPath": ".status.lastError.message",
        "priority": 1,
    },
)
"""What `kubectl get crontabberjobs` shows beside the name; those of priority 1 with `-o wide`."""

COLUMN_DESCRIPTIONS = {
    "Schedule": "The cron text, or how often: every 1d @ 05:00 UTC.",
    "State": "Where the job is, in a word.",
    "Last Success": "How long ago the last success is.",
    "Next Run": "The time of the next run.",
    "Missed": "How many slots are due and have not succeeded yet.",
    "Errors": "How many runs failed since the last success.",
    "Age": "How old the resource is.",
    "Command": "The management command.",
    "Last Run": "How long ago the newest run started.",
    "Last Error": "The newest failure: type and message, as its traceback ends.",
}


# --- The whole ------------------------------------------------------------------------------------------


def definition() -> Schema:
    """Return the CustomResourceDefinition as JSON."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["ctj"],
                "categories": ["crontabber"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {**column, "description": COLUMN_DESCRIPTIONS[column["name"]]} for column in COLUMNS
                    ],
                    "schema": {"openAPIV3Schema": _resource_schema()},
                }
            ],
        },
    }


def manifest() -> str:
    """Return the CustomResourceDefinition as YAML, as it stands in crds/crontabberjobs.yaml."""
    text: str = yaml.dump(definition(), sort_keys=False, allow_unicode=True, width=110)
    return "# Written by `crontabber crd`. Don't edit: change operator/models.py and run `make crd`.\n" + text


def _resource_schema() -> Schema:
    return {
        "description": "A Django management command that runs on schedule, with its bookkeeping in the"
        " status.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            # The name is here only so that a rule can point at it.
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": spec_schema(),
            "status": status_schema(),
        },
        "x-kubernetes-validations": [
            {
                "rule": f"self.metadata.name.size() <= {NAME_MAX_LENGTH}",
                "message": f"must be at most {NAME_MAX_LENGTH} characters, so that the names of its Jobs fit:"
                " shorten it",
                "fieldPath": ".metadata.name",
            },
            {
                "rule": "!has(self.spec.dependsOn) || self.spec.dependsOn.all(d, d.name !="
                " self.metadata.name)",
                "message": "can't have the job itself in it: remove it",
                "fieldPath": ".spec.dependsOn",
            },
        ],
    }


def spec_schema() -> Schema:
    """Return the structural schema of `spec`."""
    schema = _structural(TypeAdapter(Spec).json_schema(by_alias=True))
    schema["description"] = "What to run, and when."
    properties = schema["properties"]
    properties["schedule"]["x-kubernetes-validations"] = list(_schedule_rules())
    properties["template"] = {
        "description": properties["template"]["description"],
        **json.loads(POD_TEMPLATE_PATH.read_text(encoding="utf-8")),
    }
    schema["x-kubernetes-validations"] = [
        {
            "rule": rule.cel,
            "message": rule.sentence,
            "fieldPath": f".{rule.field}",
            "reason": rule.reason,
        }
        for rule in RULES
    ]
    return schema


def status_schema() -> Schema:
    """Return the structural schema of `status`.

    It is looser than the model: the words of `state` and `result` are not listed. Helm doesn't upgrade CRDs,
    and an operator newer than its CRD must still be able to write.
    """
    schema = _structural(TypeAdapter(Status).json_schema(by_alias=True))
    schema["description"] = "The bookkeeping, written by the operator alone."
    properties = schema["properties"]
    del properties["state"]["enum"]
    del properties["history"]["items"]["properties"]["result"]["enum"]
    properties["conditions"]["x-kubernetes-list-type"] = "map"
    properties["conditions"]["x-kubernetes-list-map-keys"] = ["type"]
    # Otherwise tools that wait for a resource (kstatus) take it for accepted before the operator has seen it.
    schema["default"] = {"observedGeneration": NOT_SEEN}
    return schema


# --- From pydantic's JSON schema to a structural one ----------------------------------------------------

_KEPT = (
    "type",
    "format",
    "enum",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "pattern",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
)


def _structural(schema: Mapping[str, Any], models: Mapping[str, Any] | None = None) -> Schema:
    """Resolve references, drop titles and defaults, and turn `X or null` into X."""
    if models is None:
        models = schema.get("$defs", {})
    if "anyOf" in schema:
        # An optional field: what is absent is null in Python only.
        (given,) = (option for option in schema["anyOf"] if option.get("type") != "null")
        return _structural({**given, **{key: schema[key] for key in schema if key != "anyOf"}}, models)
    if "$ref" in schema:
        target = models[schema["$ref"].rsplit("/", 1)[-1]]
        return _structural({**target, **{key: schema[key] for key in schema if key != "$ref"}}, models)
    result: Schema = {"description": schema["description"]} if "description" in schema else {}
    result.update({key: schema[key] for key in _KEPT if key in schema})
    if "x-kubernetes-validations" in result:
        # The rule says it in words; both together would give two lines for each mistake.
        result.pop("pattern", None)
    if "const" in schema:
        result["enum"] = [schema["const"]]
    if result["type"] == "integer":
        result["format"] = "int32" if result.get("maximum", INT32_MAX + 1) <= INT32_MAX else "int64"
    if result["type"] == "array":
        result["items"] = _structural(schema["items"], models)
        result.setdefault("x-kubernetes-list-type", "atomic")
    if "properties" in schema:
        if "required" in schema:
            result["required"] = schema["required"]
        result["properties"] = {
            name: _structural(field, models) for name, field in schema["properties"].items()
        }
    return result


# --- Cron text ------------------------------------------------------------------------------------------

# What robfig/cron's ParseStandard splits fields at: the white space of Unicode.
_BLANK = r"\s\v\pZ\x{85}"
_FIVE_FIELDS = rf"^[{_BLANK}]*[^{_BLANK}]+([{_BLANK}]+[^{_BLANK}]+){{4}}[{_BLANK}]*$"
_DESCRIPTORS = (
    "@hourly",
    "@daily",
    "@midnight",
    "@weekly",
    "@monthly",
    "@yearly",
    "@annually",
)
# Name, numbers, words, sentence.
_CRON_FIELDS = (
    ("minute", "[1-5]?[0-9]", "", "0 to 59"),
    ("hour", "1?[0-9]|2[0-3]", "", "0 to 23"),
    (
        "day of month",
        "[1-9]|[12][0-9]|3[01]",
        "",
        "1 to 31 (L and W are not known)",
    ),
    (
        "month",
        "[1-9]|1[0-2]",
        "|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec",
        "1 to 12 or JAN to DEC",
    ),
    (
        "day of week",
        "[0-6]",
        "|sun|mon|tue|wed|thu|fri|sat",
        "0 to 6 or SUN to SAT (Sunday is 0, not 7; L and # are not known)",
    ),
)


def _schedule_rules() -> Iterator[Schema]:
    """Yield rules that refuse only what robfig/cron refuses; ranges like 5-1 are left to `Spec.read`."""
    yield cel_rule(
        "!self.contains('TZ')", "can't have TZ= or CRON_TZ= in it: write the time zone into timeZone"
    )
    yield cel_rule(
        "!self.startsWith('@every')", "can't be @every: use frequency instead, such as 45m, 1h or 7d"
    )
    known = ", ".join(cel_text(descriptor) for descriptor in _DESCRIPTORS)
    yield cel_rule(
        f"!self.startsWith('@') || self.startsWith('@every') || self in [{known}]",
        f"must be one of {', '.join(_DESCRIPTORS)}, or five fields such as '30 5 * * 1'",
    )
    five_fields = f"self.matches({cel_text(_FIVE_FIELDS)})"
    yield cel_rule(
        f"self.startsWith('@') || self.contains('TZ') || {five_fields}",
        "must have five fields: minute, hour, day of month, month and day of week, such as '30 5 * * 1';"
        " none for seconds or years",
    )
    for index, (name, numbers, words, sentence) in enumerate(_CRON_FIELDS):
        field = _cron_field(numbers, words)
        pattern = rf"^[{_BLANK}]*([^{_BLANK}]+[{_BLANK}]+){{{index}}}{field}([{_BLANK}]|$)"
        yield cel_rule(
            f"!{five_fields} || self.startsWith('@') || self.contains('TZ')"
            f" || self.matches({cel_text(pattern)})",
            f"its {name} takes {sentence}, and *, lists (1,2), ranges (1-5) and steps from 1 (*/5)",
        )


def _cron_field(numbers: str, words: str) -> str:
    # robfig reads numbers with strconv.Atoi (+5 and 05 are 5), ignores what follows *-, and ignores empty
    # items of a list.
    value = rf"(\+?0*({numbers}){words})"
    part = rf"([*?](-[^,/{_BLANK}]*)?|{value}(-{value})?)(/\+?0*[1-9][0-9]*)?"
    return rf"(?i:,+|,*{part}(,+{part})*,*)"


# --- The pod template -----------------------------------------------------------------------------------

# Metadata that means something in a template, and what `kubectl create --dry-run` writes into one.
_TEMPLATE_METADATA = (
    "annotations",
    "creationTimestamp",
    "generateName",
    "labels",
    "name",
    "namespace",
)
# Kept as maps: lists whose keys a pod must not have twice. The others are atomic, because equal names in env
# (ports, imagePullSecrets, hostAliases) are legal in a Deployment, from which templates are copied.
_UNIQUE = frozenset({("name",), ("mountPath",), ("devicePath",), ("topologyKey", "whenUnsatisfiable")})
_NOT_UNIQUE = frozenset({"env", "imagePullSecrets"})
_QUANTITY_PATTERN = (
    "^[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?([0-9]+([.][0-9]*)?|[.][0-9]+))?$"
)


def pod_template(openapi: Mapping[str, Any]) -> Schema:
    """Return the structural schema of a PodTemplateSpec from the API server's /openapi/v3/api/v1.

    Raises KeyError where that is some other document.
    """
    models = openapi["components"]["schemas"]
    template = _pod_part(models["io.k8s.api.core.v1.PodTemplateSpec"], models)
    # Pods made from a template can't have them.
    del template["properties"]["spec"]["properties"]["ephemeralContainers"]
    template["required"] = ["spec"]
    for containers in ("containers", "initContainers"):
        template["properties"]["spec"]["properties"][containers]["items"]["required"] = ["name", "image"]
    template["properties"]["spec"]["properties"]["containers"]["minItems"] = 1
    return template


def _pod_part(schema: Mapping[str, Any], models: Mapping[str, Any], name: str = "") -> Schema:
    if "allOf" in schema:
        (schema,) = schema["allOf"]
    if "$ref" in schema:
        return _pod_part(models[schema["$ref"].rsplit("/", 1)[-1]], models, name)
    options = [option["type"] for option in schema.get("oneOf", ())]
    if options == ["integer", "string"]:
        return {"x-kubernetes-int-or-string": True}
    if options == ["string", "number"]:
        # A quantity. Not int-or-string: that refuses `cpu: 0.5`, which a Deployment takes.
        return {
            "pattern": _QUANTITY_PATTERN,
            "x-kubernetes-preserve-unknown-fields": True,
        }
    result: Schema = {
        key: schema[key]
        for key in ("type", "format", "enum", "required", "x-kubernetes-map-type")
        if key in schema
    }
    if "items" in schema:
        result["items"] = _pod_part(schema["items"], models)
        kind, keys = (
            schema.get("x-kubernetes-list-type"),
            schema.get("x-kubernetes-list-map-keys", []),
        )
        if kind == "map" and tuple(keys) in _UNIQUE and name not in _NOT_UNIQUE:
            result |= {
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": keys,
            }
    if "additionalProperties" in schema:
        result["additionalProperties"] = _pod_part(schema["additionalProperties"], models)
    if "properties" in schema:
        properties = schema["properties"]
        if "managedFields" in properties:
            properties = {key: properties[key] for key in _TEMPLATE_METADATA}
        result["properties"] = {key: _pod_part(part, models, key) for key, part in sorted(properties.items())}
    return result


# --- The sub-command ------------------------------------------------------------------------------------


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `crontabber crd`; its arguments carry `run`, a function of them that returns the exit code."""
    parser = subparsers.add_parser(
        "crd",
        help="print the CustomResourceDefinition",
        description="Print the CustomResourceDefinition of CrontabberJob: crontabber crd | kubectl apply -f"
        " -",
    )
    parser.add_argument(
        "--pod-template-from",
        metavar="FILE",
        help="print pod_template.json instead, made from the API server's OpenAPI document (- for standard"
        " input): kubectl get --raw /openapi/v3/api/v1 | crontabber crd --pod-template-from -",
    )
    parser.add_argument("--reference", action="store_true", help="print docs/reference.md instead")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what is asked for."""
    if arguments.reference:
        sys.stdout.write(reference(definition(), COLUMN_DESCRIPTIONS))
        return 0
    source: str | None = arguments.pod_template_from
    if source is None:
        sys.stdout.write(manifest())
        return 0
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
        template = pod_template(json.loads(text))
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(
            f"crontabber crd: {source} is not what `kubectl get --raw /openapi/v3/api/v1` gives: {error!r}\n"
        )
        return 1
    sys.stdout.write(json.dumps(template, separators=(",", ":"), sort_keys=True) + "\n")
    return 0
