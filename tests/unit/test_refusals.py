"""A refusal says which field and why, and never what stood in an object."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crontabber_operator.refusals import MESSAGE_MAX_CHARACTERS, Body, taken_away, without_values


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            'CronJob.batch "a" is invalid: spec.schedule: Invalid value: "x": expected 5 fields',
            'CronJob.batch "a" is invalid: spec.schedule: Invalid value: "x": expected 5 fields',
        ),
        (
            (
                'Job.batch "a" is invalid: spec.template: Invalid value: {"spec":{"containers":[{"env":[{"name":'
                '"PASSWORD","value":"hunter2: }: x"}]}]}}: field is immutable'
            ),
            'Job.batch "a" is invalid: spec.template: Invalid value: field is immutable',
        ),
        (
            (
                'Job.batch "a" is invalid: [spec.template: Invalid value: core.PodTemplateSpec{ObjectMeta:v1.'
                'ObjectMeta{Name:""}, Spec:core.PodSpec{Env:[]core.EnvVar{Value:"hunter2"}}}: '
                "field is immutable, b: Required value]"
            ),
            'Job.batch "a" is invalid: [spec.template: Invalid value: field is immutable, b: Required value]',
        ),
        (
            'x: Duplicate value: {"name":"PASSWORD","value":"hunter2"}',
            "x: Duplicate value",
        ),
        ('x: Invalid value: []core.EnvVar{core.EnvVar{Value:"hunter2', "x: Invalid value"),
        ("two\n  lines", "two lines"),
    ],
)
def test_objects_are_left_out(message: str, told: str) -> None:
    """Texts and numbers stay: they are what is to be mended."""
    assert without_values(message) == told


@given(st.text(max_size=3000))
def test_it_is_one_line_of_some_length(message: str) -> None:
    """Whatever a webhook answers."""
    told = without_values(message)
    assert len(told) <= MESSAGE_MAX_CHARACTERS
    assert "\n" not in told


# --- What a webhook took away ------------------------------------------------------------------------------

_JOB = {
    "metadata": {"labels": {"a": "1"}, "annotations": {"b": "2"}, "ownerReferences": [{"uid": "u"}]},
    "spec": {"suspend": True},
}
_CRONJOB = {
    "metadata": {"labels": {"a": "1"}, "annotations": {"b": "2"}, "ownerReferences": [{"uid": "u"}]},
    "spec": {
        "suspend": False,
        "jobTemplate": {"metadata": {"annotations": {"c": "3"}}, "spec": {"suspend": True}},
    },
}


@pytest.mark.parametrize(
    ("sent", "made", "lost"),
    [
        (_JOB, _JOB, []),
        (_JOB, {**_JOB, "metadata": {**_JOB["metadata"], "labels": {"a": "1", "x": "y"}}}, []),
        (_JOB, {**_JOB, "metadata": {**_JOB["metadata"], "labels": {"a": "other"}}}, ["metadata.labels"]),
        (
            _JOB,
            {"metadata": {}, "spec": {}},
            ["metadata.labels", "metadata.annotations", "metadata.ownerReferences", "spec.suspend"],
        ),
        (_CRONJOB, _CRONJOB, []),
        (
            _CRONJOB,
            {**_CRONJOB, "spec": {"jobTemplate": {"spec": {}}}},
            ["spec.jobTemplate.metadata.annotations"],
        ),
        (_CRONJOB, {**_CRONJOB, "spec": {**_CRONJOB["spec"], "suspend": True}}, []),
    ],
)
def test_what_was_taken_away_is_named(sent: Body, made: Body, lost: list[str]) -> None:
    """Added is anything; a CronJob's suspension is looked after elsewhere."""
    assert taken_away(sent, made) == lost
