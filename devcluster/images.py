"""The image map: which local directory and Python stand for a container image.

Reads and checks what users write on the command line, and writes the file that the node reads. Runs nothing.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster.paths import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping


class ImageError(Exception):
    """An image can't be mapped; the message says what is wrong and what is accepted."""


@dataclass(frozen=True, slots=True)
class LocalImage:
    """What stands for an image; both paths absolute."""

    directory: str
    """The containers' working directory, where no `workingDir` is set."""
    python: str
    """The interpreter that `python` and `python3` mean in the container."""

    @classmethod
    def of(cls, directory: str | Path, python: str | Path | None = None) -> LocalImage:
        """Check both paths and make them absolute. Raises ImageError.

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
        return cls(str(folder), str(interpreter))


def parse(text: str) -> tuple[str, LocalImage]:
    """Read `NAME=DIRECTORY` or `NAME=DIRECTORY,python=INTERPRETER`. Raises ImageError."""
    name, separator, rest = text.partition("=")
    directory, _, python = rest.partition(",python=")
    if not (name and separator and directory):
        message = f"{text!r} is no image: write NAME=DIRECTORY or NAME=DIRECTORY,python=INTERPRETER"
        raise ImageError(message)
    try:
        return name, LocalImage.of(directory, python or None)
    except ImageError as error:
        message = f"image {name}: {error}"
        raise ImageError(message) from error


def read(path: Path) -> dict[str, LocalImage]:
    """Return the map in the file, empty when there is none."""
    if not path.exists():
        return {}
    return {name: LocalImage(**image) for name, image in json.loads(path.read_text(encoding="utf-8")).items()}


def write(path: Path, images: Mapping[str, LocalImage]) -> None:
    """Write the map; a node that reads at the same time sees the old or the new one."""
    write_atomically(path, json.dumps({name: asdict(image) for name, image in images.items()}, indent=2) + "\n")
