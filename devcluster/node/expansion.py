"""Expands ``$(NAME)`` and ``$$`` as Kubernetes does. Pure.

The rules are those of Kubernetes' own ``third_party/forked/golang/expansion``: a name that is not known, and
a reference that is never closed, stay as they were written; ``$$`` is a literal dollar, so ``$$(NAME)``
becomes the text ``$(NAME)``. This is not shell syntax: ``$NAME`` and ``${NAME}`` are left to the shell.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_REFERENCE = re.compile(r"\$(?:(?P<dollar>\$)|\((?P<name>[^)]*)\))")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace every known ``$(NAME)``, once: what a value brings in is not expanded again."""

    def replacement(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        return variables.get(match["name"], match[0])

    return _REFERENCE.sub(replacement, text)
