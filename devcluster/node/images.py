"""Which local directory and interpreter an image name stands for. Reads one JSON file, writes nothing.

The file maps image names to directories; it is read again whenever it changes, so an image can be added while
the node runs::

    {
      "webapp": {"directory": "/home/me/webapp", "python": "/home/me/venv/bin/python"},
      "webapp:2": {"directory": "/home/me/webapp2", "env": {"DJANGO_SETTINGS_MODULE": "site.settings"}},
      "registry.example/team/site": {"directory": "site", "workingDir": "/app", "cmd": ["./run", "web"]}
    }

``directory`` (required; relative to the file's own folder) is where containers of the image run. ``python``
is what ``python`` and ``python3`` mean in them: the node's own interpreter where it isn't given.
``workingDir`` is where the directory appears in the real image: the node makes that path mean the directory
(see `pathmap` and `mounts`). ``env``, ``entrypoint`` and ``cmd`` are what the image's Dockerfile would set.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class ImageConfigError(Exception):
    """The file of images can't be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Image:
    """What a container of an image runs in."""

    name: str
    directory: Path
    python: Path
    working_directory: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


class Images:
    """The images that this node has, by name."""

    def __init__(self, path: Path) -> None:
        """Read the file at once, so that a wrong one is told at the start: raises `ImageConfigError`."""
        self._path = path
        self._read_at: tuple[int, int] | None = None
        self._images: Mapping[str, Image] = {}
        self._refresh()

    def find(self, name: str) -> Image | None:
        """Return the image of exactly this name, else of this name without digest or tag, else None.

        Raises `ImageConfigError` if the file was changed to something that can't be read.
        """
        self._refresh()
        return next((self._images[each] for each in _spellings(name) if each in self._images), None)

    def _refresh(self) -> None:
        try:
            stat = self._path.stat()
            version = (stat.st_mtime_ns, stat.st_size)
            if version == self._read_at:
                return
            content = json.loads(self._path.read_text())
        except (OSError, ValueError) as error:
            msg = f"images: {self._path}: {error}"
            raise ImageConfigError(msg) from error
        if not isinstance(content, dict):
            msg = f"images: {self._path}: expected an object of image names"
            raise ImageConfigError(msg)
        base = self._path.absolute().parent
        self._images = {name: parse_image(name, entry, base) for name, entry in content.items()}
        self._read_at = version


def parse_image(name: str, entry: Any, base: Path) -> Image:
    """Read one entry of the file; paths in it are relative to `base`. Raises `ImageConfigError`."""
    known = {"directory", "python", "workingDir", "env", "entrypoint", "cmd"}
    if not isinstance(entry, dict) or not isinstance(entry.get("directory"), str):
        msg = f'images: {name}: expected {{"directory": PATH, …}}'
        raise ImageConfigError(msg)
    if unknown := sorted(entry.keys() - known):
        msg = f"images: {name}: unknown: {', '.join(unknown)}; known are {', '.join(sorted(known))}"
        raise ImageConfigError(msg)
    return Image(
        name=name,
        directory=base / entry["directory"],
        python=base / (entry.get("python") or sys.executable),
        working_directory=entry.get("workingDir"),
        environment={str(key): str(value) for key, value in (entry.get("env") or {}).items()},
        entrypoint=tuple(map(str, entry.get("entrypoint") or ())),
        command=tuple(map(str, entry.get("cmd") or ())),
    )


def _spellings(name: str) -> Iterator[str]:
    yield name
    without_digest = name.partition("@")[0]
    yield without_digest
    repository, colon, tag = without_digest.rpartition(":")
    if colon and "/" not in tag:  # a colon before a slash is a registry's port
        yield repository
