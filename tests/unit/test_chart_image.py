"""The Dockerfile, as far as it can be checked without building it."""

from __future__ import annotations

import re

import yaml

from tests.integration.chart_release import CHART, ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_one_argument_names_what_it_is_built_on() -> None:
    """Both stages are of BASE, so one digest pins all."""
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${BASE}", "${BASE}"]
    assert re.findall(r"^ARG BASE=(\S+)$", DOCKERFILE, re.MULTILINE)


def test_user_is_the_one_that_the_chart_runs() -> None:
    """A number above 10000, the same in both."""
    user, group = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)[0]
    context = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["podSecurityContext"]
    assert (int(user), int(group)) == (context["runAsUser"], context["runAsGroup"])
    assert int(user) > 10_000


def test_entrypoint_and_command_are_the_ones_that_the_chart_counts_on() -> None:
    """The chart gives arguments only."""
    assert 'ENTRYPOINT ["crontabber"]' in DOCKERFILE
    assert 'CMD ["operator"]' in DOCKERFILE


def test_what_is_copied_reaches_the_builder() -> None:
    """Each source of a COPY exists and is let through by .dockerignore, and nothing else is."""
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    let_through = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line[:1] == "!"
    }
    assert copied == let_through
    assert all((ROOT / name).exists() for name in copied)


def test_dependencies_are_installed_by_hash() -> None:
    """The lock file names a hash for each file, and pip is told to insist."""
    assert "--require-hashes -r requirements.lock" in DOCKERFILE
    assert "--require-hashes -r build.lock" in DOCKERFILE
    lock = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8")
    build = re.search(r"^setuptools==.*?(?<!\\)$", lock, re.MULTILINE | re.DOTALL)
    assert build is not None
    assert "--hash=sha256:" in build[0]


def test_a_release_finds_what_it_fills_in() -> None:
    """Each text that the release workflow replaces in the chart is there, and once."""
    workflow = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    replaced = re.findall(r'sed -i "s\|([^|]+)\|.*\|" helm/(\S+)$', workflow, re.MULTILINE)
    assert [name for _, name in replaced] == ["values.yaml", "values.yaml", "Chart.yaml"]
    for pattern, name in replaced:
        text = (CHART / name).read_text(encoding="utf-8")
        assert len(re.findall(pattern.replace('\\"', '"'), text, re.MULTILINE)) == 1, pattern
    tag = re.findall(r"sed -n '(s/.*/p)' Dockerfile", workflow)
    assert tag == ["s/^ARG BASE=//p"]
    assert len(re.findall(r"^ARG BASE=(\S+)$", DOCKERFILE, re.MULTILINE)) == 1
