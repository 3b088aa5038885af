"""A refusal says which field and why, and never what stood in an object."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crontabber_operator.refusals import MESSAGE_MAX_CHARACTERS, without_values


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
