"""Fill `$(NAME)` in an argument as Kubernetes does: unknown names stay, `$$` is a `$`.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$(?:\$|\((?P<name>[^)]*)\))")


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace the references whose names are known; `$$(X)` becomes `$(X)`, whatever X is."""

    def replacement(match: re.Match[str]) -> str:
        if match["name"] is None:
            return "$"
        return values.get(match["name"], match[0])

    return _REFERENCE.sub(replacement, text)
