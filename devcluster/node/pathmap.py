"""Rewrites the paths of a container to where they really are, for machines without mount namespaces. Pure.

A process has no file system of its own. Where the node can't give it one (`mounts`), a volume's mountPath
does not exist; so in the command, the args, the working directory and the values of the environment, every
mountPath is replaced by the volume's real directory. The rule:

* a mountPath counts only as a whole path or as a whole leading part of one: ``/etc/app`` is replaced in
  ``/etc/app``, ``/etc/app/x`` and ``--config=/etc/app/x``, never in ``/etc/apple`` or ``/srv/etc/app``;
* what stands before it may be anything but a character of a longer path (letters, digits and ``_ - . ~ % @ +
  /``), or ``://`` or ``:///``, so that ``sqlite:////data/db`` and ``file:///data/x`` work and
  ``http://host/data`` is left alone;
* of nested mountPaths the longest counts, and what is put in is not looked at again.

A path that a program has built in, or reads from a file, is beyond this.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_BEFORE = r"(?:(?<=:///)|(?<=://)|(?<![\w.~%@+/-]))"
_AFTER = r"(?![\w.~%@+-])"


@dataclass(frozen=True)
class PathMap:
    """Where the paths of one container really are: ``{"/etc/app": "/…/volumes/config"}``, all absolute."""

    real_paths: Mapping[str, str]

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        known = sorted((path for path in self.real_paths if path != "/"), key=len, reverse=True)
        if not known:
            return None
        return re.compile(f"{_BEFORE}(?:{'|'.join(re.escape(path) for path in known)}){_AFTER}")

    def rewrite(self, text: str) -> str:
        """Replace every mapped path in the text by the real one."""
        if self._pattern is None or "/" not in text:
            return text
        return self._pattern.sub(lambda match: self.real_paths[match[0]], text)
