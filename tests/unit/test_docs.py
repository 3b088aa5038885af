"""The documentation, held against what it speaks of: links, manifests, commands, flags, states.

What it says of a run is tried where it is written; here is what can be checked without a cluster.
"""

from __future__ import annotations

import argparse
import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from crontabber_operator import cli, plugin, serve
from crontabber_operator.commands import COMMAND_ID, NAMES
from crontabber_operator.crd import spec_schema
from crontabber_operator.exposition import JOB_FAMILIES
from crontabber_operator.known_figures import KnownFigures
from crontabber_operator.metrics import Metrics
from crontabber_operator.models import GROUP, KIND, VERSION, ConditionType, Spec, State
from crontabber_operator.old_jobs import KEYS
from crontabber_operator.pod_starts import UNSCHEDULED_FOR, cannot_start
from crontabber_operator.settings import PREFIX
from crontabber_operator.store import Key, Store
from tests.unit.test_chart_schemas import VERSIONS

ROOT = Path(__file__).parents[2]
_LISTED = subprocess.run(
    ["git", "ls-files", "*.md", "--cached", "--others", "--exclude-standard"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
)
PAGES = sorted(set(_LISTED.stdout.split()))
DOCS = ROOT / "docs"


def text_of(page: str) -> str:
    """Return a page's text."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> Iterator[str]:
    """Yield the code blocks of a page: the fenced ones, and the indented ones."""
    text = text_of(page)
    yield from re.findall(r"^```[a-z]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"(?:^ {4}.+\n|^\n(?= {4}))+", rest, re.MULTILINE)


# --- Links -----------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as forges make them."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Every relative link is to a file that is in the repository, and to a heading that is in it."""
    prose = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_index_has_every_page() -> None:
    """What is in docs/ can be found."""
    linked = set(re.findall(r"\]\(([^)\s#]+)", text_of("docs/README.md")))
    assert {path.name for path in DOCS.glob("*.md")} - {"README.md"} <= linked


# --- Manifests -------------------------------------------------------------------------------------------


def manifests() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the CrontabberJobs that are shown, and the page of each."""
    for page in PAGES:
        for block in blocks(page):
            if f"kind: {KIND}" in block:
                yield from (
                    (page, one) for one in yaml.safe_load_all(block) if one and one.get("kind") == KIND
                )


def test_manifests_can_be_applied_as_they_are_shown() -> None:
    """Right version, a spec without a mistake, and no field that there is not."""
    known = spec_schema()["properties"]
    shown = list(manifests())
    assert shown
    for page, manifest in shown:
        assert manifest["apiVersion"] == f"{GROUP}/{VERSION}", page
        Spec.read(manifest["spec"], name=manifest["metadata"]["name"])
        assert manifest["spec"].keys() <= known.keys(), page
        assert manifest["spec"].get("webapp", {}).keys() <= known["webapp"]["properties"].keys(), page


# --- Commands --------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield the commands of this project that are shown in code blocks, and the page of each."""
    for page in PAGES:
        for block in blocks(page):
            lines = block.replace("\\\n", " ").splitlines()
            typed = [line for line in lines if line.startswith("$ ")] or lines  # the rest is what was printed
            for line in typed:
                for part in re.split(r"&&|\||;", line.strip().removeprefix("$ ")):
                    words = part.strip()
                    if re.match(r"(crontabber|kubectl crontabber) [a-z]", words):
                        yield page, shlex.split(re.split(r"\s[<>]", words)[0], comments=True)


def test_commands_are_understood() -> None:
    """Each command line that is shown is one that the program takes."""
    shown = list(commands())
    assert len(shown) > 10
    for page, words in shown:
        try:
            if words[0] == "crontabber":
                cli._parse(words[1:])  # noqa: SLF001 - the parser without running the command
            else:
                plugin.build_parser().parse_args(words[2 : words.index("--") if "--" in words else None])
        except SystemExit as error:
            pytest.fail(f"{page}: {shlex.join(words)}: exit code {error.code}")


def test_each_command_has_its_place() -> None:
    """On the page of the command line."""
    page = text_of("docs/cli.md")
    assert [one.name for one in cli.COMMANDS if f"`crontabber {one.name}" not in page] == []


def test_annotations_that_are_shown_exist() -> None:
    """A misspelt command would stay on the resource, and nothing would happen."""
    for page in PAGES:
        for name in re.findall(rf"{re.escape(GROUP)}/([a-z-]+)=", text_of(page)):
            assert f"{GROUP}/{name}" in {COMMAND_ID, *(f"{GROUP}/{one}" for one in NAMES)}, page


# --- Settings, states ------------------------------------------------------------------------------------


def flags(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the flags of `crontabber operator`."""
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    with pytest.raises(SystemExit):
        parser.parse_args(["operator", "--help"])
    return re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE)


def test_configuration_names_each_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """Each flag with its environment variable, in one row."""
    rows = [line for line in text_of("docs/configuration.md").splitlines() if line.startswith("|")]
    shown = flags(capsys)
    assert "--webapp" in shown
    for flag in shown:
        variable = PREFIX + flag[2:].upper().replace("-", "_")
        assert any(f"`{flag}" in row and f"`{variable}`" in row for row in rows), flag


@pytest.mark.parametrize("key", KEYS)
def test_each_key_of_old_jobs_has_its_new_form(key: str) -> None:
    """In the table of the page for those who move."""
    assert re.search(rf"^\| `{key}`.* \| .*`", text_of("docs/migrating.md"), re.MULTILINE)


@pytest.mark.parametrize("word", [*State, *ConditionType])
def test_states_and_conditions_are_explained(word: str) -> None:
    """A person who sees one finds it on the page for people on call."""
    assert f"`{word}`" in text_of("docs/on-call.md")


def reasons() -> Iterator[tuple[str, str]]:
    """Yield what the operator gives as the reason of a condition or Event, where it stands as it is, and the module."""
    for module in sorted((ROOT / "operator").glob("*.py")):
        for call in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Name)
                and call.func.id in ("Hold", "Unavailable", "Telling")
                and call.args
                and isinstance(call.args[0], ast.Constant)
            ):
                yield module.name, str(call.args[0].value)


def test_reasons_are_explained() -> None:
    """A person on call finds each on the page for people on call."""
    shown = list(reasons())
    assert len(shown) > 20
    text = text_of("docs/on-call.md")
    assert [one for one in shown if f"`{one[1]}`" not in text] == []


def test_versions_are_those_that_are_tested() -> None:
    """Floor and ceiling of Kubernetes' versions, in words and in the chart."""
    text = text_of("docs/versioning.md")
    chart = yaml.safe_load((ROOT / "helm" / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["kubeVersion"] == f">={VERSIONS[0]}.0-0"
    assert f"{VERSIONS[0]} and later" in text
    assert f"{VERSIONS[0]} to {VERSIONS[-1]}" in text


def test_a_pod_that_waits_is_found_by_the_word_that_is_shown() -> None:
    """The words of `CannotStart` are in the table of troubleshooting."""
    text = text_of("docs/troubleshooting.md")
    gated = {"type": "PodScheduled", "reason": "SchedulingGated"}
    pods = [
        {"phase": "Pending", "conditions": [gated]},
        *(
            {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": reason}}}]}
            for reason in (
                "ErrImagePull",
                "ErrImageNeverPull",
                "InvalidImageName",
                "CreateContainerConfigError",
            )
        ),
    ]
    for status in pods:
        found = cannot_start([{"metadata": {"uid": "u"}, "spec": {}, "status": status}], UNSCHEDULED_FOR)
        assert found is not None
        assert f"`{found.why[0]}`" in text


# --- Metrics and alerts ----------------------------------------------------------------------------------


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """Return the table below a heading: the other columns by what the first has in code."""
    section = text_of(page).split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    cells = [
        [one.strip() for one in line.strip("|").split("|")]
        for line in re.findall(r"^\|.*\|$", section, re.MULTILINE)
    ]
    return {match[1]: row[1:] for row in cells if (match := re.match(r"`(\w+)`", row[0]))}


def test_every_metric_is_told_with_type_and_labels() -> None:
    """As the operator writes them, and no other."""
    shown = {
        name: (kind, set(re.findall(r"`(\w+)`", labels)))
        for name, (kind, labels, _) in rows("docs/operations.md", "Metrics").items()
    }
    metrics = Metrics(Store(), KnownFigures(), lambda: datetime(2026, 11, 24, tzinfo=UTC))
    metrics.failed(Key("web", "job"), ValueError(), 1.0)
    written = {one.name: (one.type, set(one.labels) - {"namespace", "crontabberjob"}) for one in JOB_FAMILIES}
    for family in text_string_to_metric_families(b"".join(metrics.text()).decode()):
        if family.name.startswith("crontabber_") and not family.name.startswith("crontabber_job_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {label for sample in family.samples for label in sample.labels}
            written[name] = (family.type, labels - {"le"})
    assert shown == written


def test_every_alert_is_told() -> None:
    """With what to do."""
    template = text_of("helm/templates/prometheusrule.yaml")
    names = set(re.findall(r"- alert: (\w+)", template))
    shown = rows("docs/operations.md", "Alerts")
    assert shown.keys() == names
    assert all(len(mend) > 40 for _, mend in shown.values())
