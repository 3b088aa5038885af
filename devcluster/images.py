"""The image map: which local directory and Python stand for a container image.

Reads and checks what users write on the command line, and writes the file that the node reads. Runs nothing.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devcluster.paths import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORM = "NAME=DIR[,python=FILE][,workingDir=PATH]"


class ImageError(Exception):
    """An image can't be mapped; the message says what is wrong and what is accepted."""


@dataclass(frozen=True, slots=True)
class LocalImage:
    """What stands for an image. Make it with `of`, which checks the paths."""

    directory: str
    """Where its containers run; absolute."""
    python: str
    """What `python` and `python3` mean in them; absolute."""
    working_directory: str | None = None
    """The path in the real image at which containers find `directory`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the image's ENV lines set."""
    entrypoint: tuple[str, ...] = ()
    """The image's ENTRYPOINT."""
    command: tuple[str, ...] = ()
    """The image's CMD."""

    @classmethod
    def of(
        cls,
        directory: str | Path,
        python: str | Path | None = None,
        *,
        working_directory: str | None = None,
        environment: Mapping[str, str] | None = None,
        entrypoint: tuple[str, ...] = (),
        command: tuple[str, ...] = (),
    ) -> LocalImage:
        """Check the paths and make them absolute. Raises ImageError.

        Without `python`: the directory's own .venv, else the interpreter that devcluster runs on. Links are
        kept, because it is by its path that Python knows its virtual environment.
        """
        folder = Path(directory).expanduser().absolute()
        if not folder.is_dir():
            message = f"{folder} is no directory"
            raise ImageError(message)
        if python is None:
            own = folder / ".venv" / "bin" / "python"
            interpreter = own if own.exists() else Path(sys.executable)
        else:
            interpreter = Path(python).expanduser().absolute()
        if not (interpreter.is_file() and os.access(interpreter, os.X_OK)):
            message = f"{interpreter} is no program that can be run"
            raise ImageError(message)
        if working_directory is not None and not working_directory.startswith("/"):
            message = f"workingDir {working_directory!r} is no absolute path"
            raise ImageError(message)
        return cls(
            os.path.normpath(folder),
            str(interpreter),
            working_directory,
            environment or {},
            entrypoint,
            command,
        )


def parse(text: str) -> tuple[str, LocalImage]:
    """Read an image of the form `NAME=DIR[,python=FILE][,workingDir=PATH]`. Raises ImageError."""
    name, _, rest = text.partition("=")
    directory, *options = rest.split(",")
    pairs = [option.partition("=")[::2] for option in options]
    given = dict(pairs)
    wrong = [key for key, value in pairs if key not in ("python", "workingDir") or not value]
    if not (name and directory) or wrong:
        message = f"{text!r} is no image: write {_FORM}"
        raise ImageError(message)
    try:
        return name, LocalImage.of(directory, given.get("python"), working_directory=given.get("workingDir"))
    except ImageError as error:
        message = f"image {name}: {error}"
        raise ImageError(message) from error


def read(path: Path) -> dict[str, LocalImage]:
    """Return the map in the file, empty when there is none."""
    if not path.exists():
        return {}
    return {name: _from_file(entry) for name, entry in json.loads(path.read_text(encoding="utf-8")).items()}


def write(path: Path, images: Mapping[str, LocalImage]) -> None:
    """Write the map; a node that reads at the same time sees the old or the new one."""
    entries = {name: _to_file(image) for name, image in images.items()}
    write_atomically(path, json.dumps(entries, indent=2) + "\n")


def _to_file(image: LocalImage) -> dict[str, Any]:
    entry = {
        "directory": image.directory,
        "python": image.python,
        "workingDir": image.working_directory,
        "env": dict(image.environment),
        "entrypoint": list(image.entrypoint),
        "cmd": list(image.command),
    }
    return {key: value for key, value in entry.items() if value}


def _from_file(entry: Mapping[str, Any]) -> LocalImage:
    return LocalImage(
        entry["directory"],
        entry["python"],
        entry.get("workingDir"),
        entry.get("env", {}),
        tuple(entry.get("entrypoint", ())),
        tuple(entry.get("cmd", ())),
    )
