"""What holds for the tests of the fence."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest the marker."""
    config.addinivalue_line("markers", "quick: in CI; `make mutants` runs all")
