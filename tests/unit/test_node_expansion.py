"""`$(VAR)` expansion in commands, args and env values."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devcluster.node.expansion import expand

VARIABLES = {"A": "1", "B_2": "two", "EMPTY": "", "REF": "$(A)", "WEIRD.name-x": "w"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$(A)", "1"),
        ("--run-time=$(A)", "--run-time=1"),
        ("$(A)$(B_2)", "1two"),
        ("[$(EMPTY)]", "[]"),
        ("$(WEIRD.name-x)", "w"),
        ("$(MISSING)", "$(MISSING)"),
        ("$(REF)", "$(A)"),
        ("$$", "$"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$A ${A}", "$A ${A}"),
        ("$(A", "$(A"),
        ("$()", "$()"),
        ("5$", "5$"),
        ("$($(A))", "$($(A))"),
        ("$(A)) and $(", "1) and $("),
        ("echo $(date)", "echo $(date)"),
    ],
)
def test_references_expand_as_kubernetes_has_it(text: str, expected: str) -> None:
    """Known names are replaced once, `$$` is a dollar, everything else stays."""
    assert expand(text, VARIABLES) == expected


@settings(deadline=None)  # a busy machine is no failure
@given(st.text(alphabet=st.characters(exclude_characters="$")))
def test_text_without_a_dollar_stays(text: str) -> None:
    """Nothing but references is touched."""
    assert expand(text, VARIABLES) == text


@settings(deadline=None)  # a busy machine is no failure
@given(st.text(alphabet="$()AB"))
def test_doubling_dollars_escapes_any_text(text: str) -> None:
    """Whoever doubles every dollar gets the text itself."""
    assert expand(text.replace("$", "$$"), VARIABLES) == text
