"""docs/reference.md: generated, up to date, and complete."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from crontabber_operator import crd
from crontabber_operator.models import Spec, Status
from crontabber_operator.reference import reference
from crontabber_operator.spec_rules import RULES

COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "reference.md"


def test_the_committed_reference_is_what_the_models_say() -> None:
    """docs/reference.md was written by `crontabber crd --reference` after the last change."""
    assert COMMITTED.read_text(encoding="utf-8") == reference(crd.definition(), crd.COLUMN_DESCRIPTIONS)


@pytest.mark.parametrize("model", [Spec, Status])
def test_every_field_is_in_the_reference(model: type) -> None:
    """Each field has a row of its own."""
    text = COMMITTED.read_text(encoding="utf-8")
    for field in TypeAdapter(model).json_schema(by_alias=True)["properties"]:
        assert f"\n| `{field}` | " in text


def test_rules_columns_and_annotations_are_in_the_reference() -> None:
    """What can't be seen from a field alone is told too."""
    text = COMMITTED.read_text(encoding="utf-8")
    assert text.count("\n- `") == len(RULES) + 1
    for column in crd.COLUMNS:
        assert f"| `{column['name'].upper()}` |" in text
    for annotation in ("mark-success", "reset", "run-now", "command-id", "slot", "attempt", "run-time"):
        assert f"`crontabber.dev/{annotation}`" in text


def test_every_row_of_a_table_has_all_its_cells() -> None:
    """No text breaks the table that it stands in."""
    rows = [line.replace("\\|", "") for line in COMMITTED.read_text(encoding="utf-8").splitlines()]
    widths = {row.count("|") for row in rows if row.startswith("| ")}
    assert widths == {4, 5}
