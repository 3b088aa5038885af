"""The CRD: structural, described, small enough for kubectl, and the committed file is what the models say."""

from __future__ import annotations

import argparse
import functools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from pydantic_core import SchemaValidator, ValidationError, core_schema

from crontabber_operator import crd
from crontabber_operator.forms import COMMAND
from crontabber_operator.models import Spec, Status
from crontabber_operator.schedule import ScheduleError, parse_schedule
from crontabber_operator.spec_rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "crds" / "crontabberjobs.yaml"
KIB_256 = 262_144


@functools.cache
def schema() -> dict[str, Any]:
    """Return the schema of the whole resource; nobody changes it."""
    found: dict[str, Any] = crd.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def parts(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Walk over a schema and all that is in it."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from parts(child, f"{path}.{name}")
    for keyword in ("items", "additionalProperties"):
        if keyword in node:
            yield from parts(node[keyword], f"{path}[]")


def own_parts() -> list[tuple[str, dict[str, Any]]]:
    """Return the schema without what is Kubernetes' own."""
    return [(path, node) for path, node in parts(schema()) if not path.startswith(".spec.template.")]


def test_the_committed_file_is_what_the_models_say() -> None:
    """crds/crontabberjobs.yaml was written by `crontabber crd` after the last change."""
    assert COMMITTED.read_text(encoding="utf-8") == crd.manifest()


def test_kubectl_can_apply_it_from_the_client_and_the_server() -> None:
    """The file, and its JSON as client-side apply stores it in an annotation, are below 256 KiB."""
    assert COMMITTED.stat().st_size < KIB_256
    stored = json.dumps(yaml.safe_load(COMMITTED.read_text(encoding="utf-8")), separators=(",", ":"))
    assert len(stored.encode()) < KIB_256 // 2


def test_the_schema_is_structural() -> None:
    """Every part has one type, and nothing that a structural schema may not have."""
    for path, node in parts(schema()):
        loose = node.get("x-kubernetes-int-or-string") or node.get("x-kubernetes-preserve-unknown-fields")
        assert loose or node.get("type") in {
            "array",
            "boolean",
            "integer",
            "number",
            "object",
            "string",
        }, path
        assert not {"$ref", "$defs", "anyOf", "allOf", "oneOf", "title", "const", "nullable"} & set(node), (
            path
        )
        assert ("items" in node) == (node.get("type") == "array"), path
        assert set(node.get("required", ())) <= set(node.get("properties", ())), path


def test_no_field_of_the_spec_has_a_default() -> None:
    """A stored spec stays what the user wrote: absence decides between plain and gated."""
    assert [path for path, node in parts(schema()) if "default" in node] == [".status"]


def test_a_new_resource_is_not_taken_for_accepted() -> None:
    """Tools compare observedGeneration, and know that the operator has not seen it."""
    default = schema()["properties"]["status"]["default"]
    assert default == {"observedGeneration": -1}
    assert Status.read(default) == Status()


def test_every_field_of_the_models_is_in_the_schema_and_described() -> None:
    """`kubectl explain` says something about each field of ours, and about none of Kubernetes'."""
    properties = schema()["properties"]
    for model, found in ((Spec, properties["spec"]), (Status, properties["status"])):
        assert set(found["properties"]) == set(TypeAdapter(model).json_schema(by_alias=True)["properties"])
    for path, node in own_parts():
        is_field = path.startswith((".spec", ".status")) and not path.endswith("[]")
        if is_field:
            assert node.get("description", "").endswith("."), path
    described = [path for path, node in parts(schema()) if "description" in node]
    assert not [path for path in described if path.startswith(".spec.template.")]


def test_every_limit_of_the_models_is_in_the_schema() -> None:
    """What pydantic refuses by size or choice, the API server refuses too."""
    fields = schema()["properties"]["spec"]["properties"]
    assert fields["retryLimit"]["minimum"] == 0
    assert fields["retryLimit"]["maximum"] == 2**31 - 1
    assert fields["backfillBatch"] | {"description": ""} == {
        "description": "",
        "type": "integer",
        "format": "int32",
        "minimum": 1,
        "maximum": 1000,
    }
    assert fields["reportErrors"]["enum"] == ["Auto", "Always", "Never"]
    assert fields["output"]["enum"] == ["All", "Failures", "None"]
    assert fields["webapp"]["properties"]["kind"]["enum"] == ["Deployment"]
    assert fields["command"]["x-kubernetes-validations"][0]["rule"] == f"self.matches('{COMMAND.pattern}')"
    assert fields["dependsOn"]["x-kubernetes-list-type"] == "map"
    assert fields["dependsOn"]["x-kubernetes-list-map-keys"] == ["name"]
    assert fields["args"]["x-kubernetes-list-type"] == "atomic"


def test_every_rule_has_a_sentence_and_texts_in_rules_are_bounded() -> None:
    """CEL's cost is estimated from lengths: a text without one would make the API server refuse the CRD."""
    for path, node in parts(schema()):
        for rule in node.get("x-kubernetes-validations", ()):
            assert len(rule["message"]) > 20, path
            assert "\n" not in rule["message"], path
            if node["type"] == "string":
                assert node["maxLength"] <= 512, path
    spec = schema()["properties"]["spec"]
    assert [rule["message"] for rule in spec["x-kubernetes-validations"]] == [rule.sentence for rule in RULES]
    for rule in RULES:
        assert rule.field in spec["properties"]


def test_the_status_takes_words_of_a_newer_operator() -> None:
    """Helm leaves an old CRD in place: a new state or result must not make every status write fail."""
    status = schema()["properties"]["status"]["properties"]
    assert "enum" not in status["state"]
    assert "enum" not in status["history"]["items"]["properties"]["result"]
    assert status["conditions"]["x-kubernetes-list-map-keys"] == ["type"]
    condition = status["conditions"]["items"]
    assert condition["properties"]["status"]["enum"] == ["True", "False", "Unknown"]


def test_the_names_and_columns_are_those_of_the_design() -> None:
    """Short name, category, subresource, and the columns in their order."""
    definition = crd.definition()
    assert definition["metadata"]["name"] == "crontabberjobs.crontabber.dev"
    assert definition["spec"]["names"] == {
        "kind": "CrontabberJob",
        "listKind": "CrontabberJobList",
        "plural": "crontabberjobs",
        "singular": "crontabberjob",
        "shortNames": ["ctj"],
        "categories": ["crontabber"],
    }
    (version,) = definition["spec"]["versions"]
    assert version["subresources"] == {"status": {}}
    columns = version["additionalPrinterColumns"]
    assert [column["name"] for column in columns if not column.get("priority")] == [
        "Schedule",
        "State",
        "Last Success",
        "Next Run",
        "Missed",
        "Errors",
        "Age",
    ]
    assert [column["name"] for column in columns if column.get("priority")] == [
        "Command",
        "Last Run",
        "Last Error",
    ]
    assert next(column for column in columns if column["name"] == "Next Run")["type"] == "string"


# --- Cron text ----------------------------------------------------------------------------------------------

_MATCHES = re.compile(r"(!?)self\.matches\('((?:[^'\\]|\\.)*)'\)")


def refused_by_rules(text: str) -> list[str]:
    """Evaluate the rules about `schedule` as the API server does, with Rust's regular expressions for RE2."""
    rules = schema()["properties"]["spec"]["properties"]["schedule"]["x-kubernetes-validations"]
    return [
        rule["message"]
        for rule in rules
        if not any(_holds(term, text) for term in rule["rule"].split(" || "))
    ]


def _holds(term: str, text: str) -> bool:
    if match := _MATCHES.fullmatch(term):
        pattern = match[2].replace("\\\\", "\\").replace("\\'", "'")
        return _rust_matches(pattern, text) is not bool(match[1])
    negated = term.startswith("!")
    call, argument = re.fullmatch(r"!?self(\.contains|\.startsWith| in )\(?(.*?)\)?", term).groups()  # type: ignore[union-attr]
    literals = re.findall(r"'([^']*)'", argument)
    if call == ".contains":
        return (literals[0] in text) is not negated
    if call == ".startsWith":
        return text.startswith(literals[0]) is not negated
    return text in literals


@functools.cache
def _validator(pattern: str) -> SchemaValidator:
    return SchemaValidator(core_schema.str_schema(pattern=pattern))


def _rust_matches(pattern: str, text: str) -> bool:
    try:
        _validator(pattern).validate_python(text)
    except ValidationError:
        return False
    return True


_CRON_ITEMS = st.sampled_from(
    "* ? */5 */0 *-3 0 1 05 +5 6 7 12 13 23 24 31 32 59 60 1-5 5-1 1-5/2 2/10 1,2 ,1 1,,2, , MON fri Jan DEC"  # noqa: SIM905
    " MON-FRI 0MON L 1W 5#2 -1 1- */ /5 1-2-3 1/2/3 x */-1 099".split()
)
_BLANKS = st.sampled_from([" ", " ", " ", "  ", "\t", "\n", "\u00a0", "\u2003", "\v", "\u0085", "\u200b"])


@st.composite
def _cron_texts(draw: st.DrawFn) -> str:
    fields = [draw(st.just("*") | _CRON_ITEMS) for _ in range(draw(st.sampled_from([5] * 12 + [4, 6])))]
    text = draw(st.sampled_from(["", "", "", " ", "\n"]))
    for field in fields:
        text += field + draw(_BLANKS)
    return text[:-1] if draw(st.booleans()) else text


@settings(max_examples=300)
@given(_cron_texts())
def test_the_rules_refuse_no_cron_text_that_fires(text: str) -> None:
    """What robfig/cron reads passes the API server; what passes and can't be read is a range backwards."""
    complaint = ""
    try:
        parse_schedule(text, None)
    except ScheduleError as error:
        complaint = str(error)
    refused = refused_by_rules(text)
    if complaint:
        assert refused or "ends before it begins" in complaint
    else:
        assert refused == []


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "five fields"),
        ("* * * *", "five fields"),
        ("0 * * * * *", "none for seconds"),
        ("60 * * * *", "minute takes 0 to 59"),
        ("* 24 * * *", "hour takes 0 to 23"),
        ("* * 0 * *", "day of month takes 1 to 31"),
        ("* * L * *", "L and W are not known"),
        ("* * * 13 *", "month takes 1 to 12"),
        ("* * * * 7", "Sunday is 0, not 7"),
        ("* * * * MON#1", "# are not known"),
        ("@reboot", "@hourly"),
        ("@Daily", "@hourly"),
        ("@every 1h", "frequency"),
        ("TZ=Europe/Berlin 0 5 * * *", "timeZone"),
        ("CRON_TZ=Europe/Berlin 0 5 * * *", "timeZone"),
    ],
)
def test_each_mistake_in_a_cron_text_gets_one_sentence(text: str, part: str) -> None:
    """One mistake, one sentence, with the mend in it."""
    (sentence,) = refused_by_rules(text)
    assert part in sentence


# --- The pod template ---------------------------------------------------------------------------------------


def test_the_template_is_a_pod_template_without_descriptions() -> None:
    """Pods' fields are there; what a template can't have is not."""
    template = schema()["properties"]["spec"]["properties"]["template"]
    assert template["required"] == ["spec"]
    pod = template["properties"]["spec"]["properties"]
    assert {"affinity", "imagePullSecrets", "initContainers", "securityContext", "volumes"} <= set(pod)
    assert "ephemeralContainers" not in pod
    assert set(template["properties"]["metadata"]["properties"]) >= {"labels", "annotations"}
    container = pod["containers"]["items"]
    assert container["required"] == ["name", "image"]
    assert pod["containers"]["minItems"] == 1


def test_lists_of_the_template_allow_what_a_deployment_allows() -> None:
    """Equal names in env and equal ports are legal in a Deployment: those lists have no keys."""
    pod = schema()["properties"]["spec"]["properties"]["template"]["properties"]["spec"]["properties"]
    container = pod["containers"]["items"]["properties"]
    for name, node in (
        *((name, container[name]) for name in ("env", "ports", "envFrom", "args", "command")),
        *((name, pod[name]) for name in ("imagePullSecrets", "hostAliases", "tolerations")),
    ):
        assert "x-kubernetes-list-type" not in node, name
    assert pod["containers"]["x-kubernetes-list-map-keys"] == ["name"]
    assert pod["volumes"]["x-kubernetes-list-map-keys"] == ["name"]
    assert container["volumeMounts"]["x-kubernetes-list-map-keys"] == ["mountPath"]


def test_keys_of_keyed_lists_are_required() -> None:
    """The API server refuses a CRD whose list keys may be absent."""
    for path, node in parts(schema()):
        for key in node.get("x-kubernetes-list-map-keys", ()):
            assert key in node["items"]["required"], path


OPENAPI = {
    "components": {
        "schemas": {
            "io.k8s.api.core.v1.PodTemplateSpec": {
                "description": "A template.",
                "type": "object",
                "properties": {
                    "metadata": {"allOf": [{"$ref": "#/components/schemas/Meta"}], "default": {}},
                    "spec": {"allOf": [{"$ref": "#/components/schemas/Pod"}], "description": "The pod."},
                },
            },
            "Meta": {
                "type": "object",
                "properties": {
                    **{
                        name: {"type": "string"} for name in ("creationTimestamp", "name", "namespace", "uid")
                    },
                    "generateName": {"type": "string"},
                    "labels": {"type": "object", "additionalProperties": {"type": "string", "default": ""}},
                    "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
                    "managedFields": {"type": "array", "items": {"type": "object"}},
                },
            },
            "Pod": {
                "type": "object",
                "required": ["containers"],
                "properties": {
                    "containers": {
                        "type": "array",
                        "items": {"allOf": [{"$ref": "#/components/schemas/Container"}], "default": {}},
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["name"],
                        "x-kubernetes-patch-merge-key": "name",
                    },
                    "initContainers": {
                        "type": "array",
                        "items": {"$ref": "#/components/schemas/Container"},
                        "x-kubernetes-list-type": "atomic",
                    },
                    "ephemeralContainers": {"type": "array", "items": {"type": "object"}},
                },
            },
            "Container": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "default": ""},
                    "image": {"type": "string"},
                    "port": {
                        "oneOf": [{"type": "integer"}, {"type": "string"}],
                        "format": "int-or-string",
                    },
                    "cpu": {"oneOf": [{"type": "string"}, {"type": "number"}], "description": "Much."},
                    "env": {
                        "type": "array",
                        "items": {"type": "string"},
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["name"],
                    },
                },
            },
        }
    }
}


def test_the_template_is_made_from_the_openapi_document_of_kubernetes() -> None:
    """References are resolved; descriptions, defaults and what only kubectl needs are dropped."""
    template = crd.pod_template(OPENAPI)
    pod = template["properties"]["spec"]
    assert set(pod["properties"]) == {"containers", "initContainers"}
    assert pod["required"] == ["containers"]
    containers = pod["properties"]["containers"]
    assert {key: containers[key] for key in containers if key != "items"} == {
        "type": "array",
        "minItems": 1,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    }
    container = containers["items"]["properties"]
    assert container["port"] == {"x-kubernetes-int-or-string": True}
    assert container["cpu"].keys() == {"pattern", "x-kubernetes-preserve-unknown-fields"}
    assert container["env"] == {"type": "array", "items": {"type": "string"}}
    assert "managedFields" not in template["properties"]["metadata"]["properties"]
    assert "uid" not in template["properties"]["metadata"]["properties"]
    text = json.dumps(template)
    assert "description" not in text
    assert "default" not in text


@pytest.mark.parametrize(
    ("quantity", "valid"),
    [
        ("1", True),
        ("0.5", True),
        (".5", True),
        ("100m", True),
        ("1Gi", True),
        ("1.5G", True),
        ("1e3", True),
        ("1E3", True),
        ("5E", True),
        ("-1", True),
        ("1GB", False),
        ("1 Gi", False),
        ("", False),
        ("Gi", False),
    ],
)
def test_quantities_are_told_from_other_texts(quantity: str, valid: bool) -> None:
    """The pattern for `cpu` and `memory` takes Kubernetes' suffixes and no others."""
    pod = schema()["properties"]["spec"]["properties"]["template"]["properties"]["spec"]["properties"]
    limit = pod["containers"]["items"]["properties"]["resources"]["properties"]["limits"][
        "additionalProperties"
    ]
    assert _rust_matches(limit["pattern"], quantity) is valid


# --- The sub-command ----------------------------------------------------------------------------------------


def run(*arguments: str) -> int:
    """Run `crontabber crd` with arguments."""
    parser = argparse.ArgumentParser()
    crd.add_parser(parser.add_subparsers())
    parsed = parser.parse_args(["crd", *arguments])
    code: int = parsed.run(parsed)
    return code


def test_the_command_prints_the_definition(capsys: pytest.CaptureFixture[str]) -> None:
    """`crontabber crd` prints what is committed, so that it can be piped into kubectl."""
    assert run() == 0
    assert capsys.readouterr().out == crd.manifest()


def test_the_command_refreshes_the_pod_template(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`crontabber crd --pod-template-from` makes pod_template.json from a document of the API server."""
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(OPENAPI), encoding="utf-8")
    assert run("--pod-template-from", str(document)) == 0
    assert json.loads(capsys.readouterr().out) == crd.pod_template(OPENAPI)


@pytest.mark.parametrize("text", [None, "not JSON", "{}", "[]"])
def test_a_wrong_document_is_told_not_thrown(
    text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing file, or one of something else, gives a sentence and exit code 1."""
    document = tmp_path / "openapi.json"
    if text is not None:
        document.write_text(text, encoding="utf-8")
    assert run("--pod-template-from", str(document)) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "kubectl get --raw /openapi/v3/api/v1" in said.err
