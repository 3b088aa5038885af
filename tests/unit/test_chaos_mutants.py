"""The mistakes of `make mutants` fit the operator as it is now."""

from __future__ import annotations

import pytest

from tests.chaos.mutant_operator import MUTANTS, Line

LINES = {name: mutant for name, mutant in MUTANTS.items() if isinstance(mutant, Line)}


@pytest.mark.parametrize("mutant", LINES.values(), ids=LINES)
def test_line_to_be_changed_is_there(mutant: Line) -> None:
    """Once: where the code has been rewritten, the mistake has to be as well."""
    assert mutant.code()
