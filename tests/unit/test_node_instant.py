"""Results of pods that are finished without running."""

from __future__ import annotations

import asyncio

import pytest

from devcluster.node.instant import InstantRuntime, Result, parse_result
from devcluster.node.runtime import NotReadyError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Result()),
        ("fail", Result(1)),
        ("exit=3", Result(3)),
        ("oom", Result(137, out_of_memory=True)),
        ("hang", Result(0, None)),
        ("seconds=2.5", Result(0, 2.5)),
        ("seconds=2, exit=3", Result(3, 2)),
        ("fail,hang", Result(1, None)),
    ],
)
def test_the_annotation_says_how_a_pod_ends(text: str, expected: Result) -> None:
    """Parts can be combined."""
    assert parse_result(text) == expected


@pytest.mark.parametrize("text", ["success", "exit", "exit=x", "seconds=", "hang=1", "fail=2"])
def test_other_results_are_refused(text: str) -> None:
    """Rather than taken for a success."""
    with pytest.raises(ValueError, match=r"exit|seconds|none of|literal|convert"):
        parse_result(text)


def pod(result: str) -> dict[str, object]:
    """Return a pod with a result."""
    return {"metadata": {"name": "p", "annotations": {"devcluster/result": result}}}


def test_a_container_ends_as_it_is_told() -> None:
    """By itself, after its time, or when it is stopped."""

    async def ends() -> list[tuple[int, str]]:
        runtime = InstantRuntime()
        found = []
        for result, stop in (
            ("", ""),
            ("oom", ""),
            ("seconds=0.01,exit=4", ""),
            ("hang", "terminate"),
            ("hang", "kill"),
        ):
            container = await runtime.start(pod(result), {"name": "c", "image": "x"}, 0)
            if stop:
                getattr(container, stop)()
            ended = await container.wait()
            found.append((ended.exit_code, ended.reason))
        return found

    assert asyncio.run(ends()) == [
        (0, "Completed"),
        (137, "OOMKilled"),
        (4, "Error"),
        (143, "Error"),
        (137, "Error"),
    ]


def test_a_wrong_result_shows_in_the_pods_status() -> None:
    """As CreateContainerConfigError."""
    with pytest.raises(NotReadyError) as caught:
        asyncio.run(InstantRuntime().start(pod("nonsense"), {"name": "c"}, 0))
    assert caught.value.reason == "CreateContainerConfigError"
    assert "nonsense" in str(caught.value)
