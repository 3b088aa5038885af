"""What the operator reads for the Reporter: a Secret's values."""

from __future__ import annotations

from typing import Any

import pytest

from crontabber_operator.reporting import decoded


@pytest.mark.parametrize(
    ("secret", "values"),
    [
        ({"data": {"SENTRY_DSN": "aHR0cHM6Ly9rQHMvMQ=="}}, {"SENTRY_DSN": "https://k@s/1"}),
        ({"data": {"SENTRY_DSN": ""}}, {"SENTRY_DSN": ""}),
        ({"data": {"SENTRY_DSN": "not base64!", "b": "/w==", "c": "eA=="}}, {"c": "x"}),
        ({"data": None}, {}),
        ({}, {}),
    ],
)
def test_a_secret_is_read_as_text(secret: dict[str, Any], values: dict[str, str]) -> None:
    """As the API has it; what is no text is left out."""
    assert decoded(secret) == values
