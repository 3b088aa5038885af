"""The mistakes of `make mutants` fit the operator as it is now."""

from __future__ import annotations

import pytest

from tests.chaos.mutant_operator import MUTANTS, Line


@pytest.mark.parametrize("name", [name for name, mutant in MUTANTS.items() if isinstance(mutant, Line)])
def test_line_to_be_changed_is_there(name: str) -> None:
    """Once: where the code has been rewritten, the mistake has to be as well."""
    mutant = MUTANTS[name]
    assert isinstance(mutant, Line)
    assert mutant.code()
