"""How far each run's output was told, in files: what an operator that was killed can go on from.

One small file for each run that goes on, written in place behind each line: it outlives the process, not
the machine. Why there and not in the API is in docs/adr/. Where no file can be written, everything works, but an
operator that is killed can't know what it told. Nothing is decided here.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from crontabber_operator.output_progress import Mark

logger = logging.getLogger(__name__)

FORGOTTEN_SECONDS: Final = 7 * 24 * 3600.0
"""A file that nothing was written to for so long is left over."""
_BYTES: Final = 160
_UID = re.compile(r"[0-9a-zA-Z-]{1,64}")


def state_folder(environment: Mapping[str, str]) -> Path | None:
    """Return where a program keeps its state, by the rules of XDG; None where there is no such place."""
    given = environment.get("XDG_STATE_HOME", "")
    if given.startswith("/"):
        return Path(given) / "crontabber"
    home = environment.get("HOME", "")
    return Path(home) / ".local/state/crontabber" if home.startswith("/") and home != "/" else None


class Marks:
    """The marks of all runs whose output is being told, by the Job's uid."""

    def __init__(self, folder: Path | None) -> None:
        """Read what a former operator left."""
        self._folder = folder
        self._gave_up = False
        self._files: dict[str, int] = {}
        self._found: dict[str, Mark] = {}
        try:
            self._read(folder)
        except OSError as error:
            self._give_up(error)

    def find(self, job_uid: str) -> Mark | None:
        """Return the mark that a former operator left of a run."""
        return self._found.get(job_uid)

    def keep(self, job_uid: str, mark: Mark) -> None:
        """Have a mark found again by who goes on with the run."""
        self._found[job_uid] = mark
        self.open(job_uid, mark)
        self.close(job_uid)

    def open(self, job_uid: str, mark: Mark) -> None:
        """Write a mark, and hold its file open for those that follow."""
        if self._folder is None or not _UID.fullmatch(job_uid):
            return
        try:
            if job_uid not in self._files:
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
                self._files[job_uid] = os.open(self._folder / job_uid, flags, 0o600)
            self.write(job_uid, mark)
        except OSError as error:
            self._give_up(error)

    def write(self, job_uid: str, mark: Mark) -> None:
        """Write a mark, where its file is open. Raises nothing: a full disk must not stop the telling."""
        file = self._files.get(job_uid)
        if file is None:
            return
        try:
            os.pwrite(file, mark.written().ljust(_BYTES).encode(), 0)
        except OSError as error:
            self._give_up(error)

    def close(self, job_uid: str) -> None:
        """Close the file of a run; the mark stays."""
        file = self._files.pop(job_uid, None)
        if file is not None:
            os.close(file)

    def remove(self, job_uid: str) -> None:
        """Forget a run."""
        self._found.pop(job_uid, None)
        self.close(job_uid)
        if self._folder is not None and _UID.fullmatch(job_uid):
            try:
                (self._folder / job_uid).unlink(missing_ok=True)
            except OSError as error:
                logger.debug("%s: %s", job_uid, error)

    def _read(self, folder: Path | None) -> None:
        if folder is None:
            raise FileNotFoundError("neither XDG_STATE_HOME nor HOME names a folder")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        oldest = time.time() - FORGOTTEN_SECONDS
        for path in folder.iterdir():
            if not _UID.fullmatch(path.name):
                continue
            if path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)
                continue
            mark = Mark.read(path.read_bytes()[:_BYTES].decode(errors="replace"))
            if mark is not None:
                self._found[path.name] = mark

    def _give_up(self, error: OSError) -> None:
        if self._gave_up:
            return
        self._gave_up = True
        self._folder = None
        logger.warning(
            "How far output was told can't be kept on disk (%s): should the operator be killed, the runs of"
            " that moment are told again from their beginning. See docs/output.md",
            error,
        )
