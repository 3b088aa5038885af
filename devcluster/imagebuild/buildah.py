"""Builds an image from a Dockerfile and returns its archive; what did not change is not built again.

Layers and archives are in the cache. The build runs in a chroot, not in a container, so it works in a container
or a small virtual machine too; it needs Linux and root.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster.imagebuild.base import BaseError, make_base, release
from devcluster.imagebuild.pip_settings import CERTIFICATES, pip_settings
from devcluster.paths import cache_root
from devcluster.realnode.prerequisites import MissingError, install_programs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_TIMEOUT_SECONDS = 1200.0
_PROGRAMS = {"buildah": "buildah", "debootstrap": "debootstrap"}
_LINES_OF_A_FAILURE = 25


class ImageBuildError(Exception):
    """An image could not be built; the message says why."""


def build_image(
    name: str, folder: Path, *, dockerfile: Path | None = None, arguments: Mapping[str, str] | None = None
) -> Path:
    """Build an image and return its archive, as `docker save` writes it.

    `name` is what pods call it (`webapp`, `registry.example/team/site:1`). The build argument BASE is a base image
    made here, unless it is given. Raises ImageBuildError.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        raise ImageBuildError("images are built without Docker on Linux, by root")
    try:
        install_programs(_PROGRAMS)
    except MissingError as error:
        raise ImageBuildError(str(error)) from error
    root = cache_root() / "images"
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / "lock"):
        return _Builder(root).build(name, folder, dockerfile or folder / "Dockerfile", dict(arguments or {}))


class _Builder:
    """Buildah with a store of its own."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._log = root / "build.log"
        driver = "vfs" if _is_overlay(root) else "overlay"
        self._buildah = [
            *("buildah", "--root", str(root / driver), "--runroot", str(root / f"{driver}-run")),
            *("--storage-driver", driver),
        ]

    def build(self, name: str, folder: Path, dockerfile: Path, arguments: dict[str, str]) -> Path:
        """Build one image, and its base before it."""
        if "BASE" not in arguments:
            arguments = {"BASE": self._base(), **arguments}
        settings = pip_settings()
        with tempfile.TemporaryDirectory() as temporary:
            configuration = Path(temporary) / "pip.conf"
            configuration.write_text(settings.text, encoding="utf-8")
            mounts = [f"--volume={configuration}:/etc/pip.conf:ro"]
            if settings.certificates is not None:
                mounts.append(f"--volume={settings.certificates}:{CERTIFICATES}:ro")
            given = [f"--build-arg={key}={value}" for key, value in arguments.items()]
            identity = self._bud(
                full_name(name), [*mounts, *given, "--file", str(dockerfile), str(folder)], Path(temporary)
            )
        # An archive is known by what is in it: pushed once for each image.
        stem = hashlib.sha256(full_name(name).encode()).hexdigest()[:12]
        archive = self._root / f"{stem}-{identity.removeprefix('sha256:')[:24]}.tar"
        if not archive.exists():
            for old in self._root.glob(f"{stem}-*.tar"):
                old.unlink()
            draft = archive.with_suffix(".draft")
            draft.unlink(missing_ok=True)
            self._run(
                ["push", "--quiet", identity, f"docker-archive:{draft}:{full_name(name)}"], "storing it"
            )
            draft.rename(archive)
        return archive

    def _base(self) -> str:
        """Return the name of the base image; made once for a release."""
        try:
            name = f"localhost/base:{release()}"
            if self._ask(["images", "--quiet", name]):
                return name
            _say(f"making a base image of {release()}'s packages (once; a minute)")
            with tempfile.TemporaryDirectory(dir=self._root, prefix="base-") as temporary:
                make_base(Path(temporary) / "files", self._log)
                recipe = Path(temporary) / "Dockerfile"
                recipe.write_text('FROM scratch\nCOPY files /\nCMD ["python3"]\n', encoding="utf-8")
                self._bud(name, ["--file", str(recipe), temporary], Path(temporary))
        except BaseError as error:
            raise ImageBuildError(str(error)) from error
        return name

    def _bud(self, name: str, arguments: Sequence[str], temporary: Path) -> str:
        """Run a build and return the image's id."""
        identity = temporary / "identity"
        fixed = ["bud", "--isolation=chroot", "--network=host", "--layers", "--pull=never"]
        fixed += [f"--tag={name}", f"--iidfile={identity}"]
        self._run([*fixed, *arguments], f"building {name}")
        return identity.read_text(encoding="utf-8").strip()

    def _ask(self, arguments: Sequence[str]) -> str:
        result = subprocess.run(
            [*self._buildah, *arguments], capture_output=True, text=True, check=False, timeout=60
        )
        return result.stdout.strip() if result.returncode == 0 else ""

    def _run(self, arguments: Sequence[str], what: str) -> None:
        """Run buildah, its output in the log. Raises ImageBuildError with the end of it."""
        _say(what)
        with self._log.open("w+b") as log:
            try:
                code = subprocess.run(
                    [*self._buildah, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    check=False,
                    timeout=_TIMEOUT_SECONDS,
                ).returncode
            except subprocess.TimeoutExpired as error:
                raise ImageBuildError(f"{what} did not end within {_TIMEOUT_SECONDS:g} s") from error
        if code != 0:
            said = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES_OF_A_FAILURE:]
            raise ImageBuildError(f"{what} failed:\n" + "\n".join(f"  {line}" for line in said))


def full_name(name: str) -> str:
    """Return an image's name as nodes complete it: `webapp` is `docker.io/library/webapp:latest`."""
    repository, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "latest")
    first = repository.split("/")[0]
    if "/" not in repository:
        repository = f"docker.io/library/{repository}"
    elif "." not in first and ":" not in first and first != "localhost":
        repository = f"docker.io/{repository}"
    return f"{repository}:{tag}"


def _say(text: str) -> None:
    print(f"devcluster: {text}", file=sys.stderr, flush=True)


def _is_overlay(folder: Path) -> bool:
    """Whether this folder is on an overlay file system, which can't be the base of another."""
    command = ["stat", "--file-system", "--format", "%T", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "overlayfs"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process build at a time."""
    with path.open("a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
