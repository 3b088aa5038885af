"""The base image: Python from the machine's own release of Debian or Ubuntu, without a registry.

Makes a folder of files; what is done with it is `buildah`'s.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

_PACKAGES = ("python3", "python3-venv", "ca-certificates")
_OLDEST_PYTHON = (3, 11)
_TIMEOUT_SECONDS = 900.0

#: What no container needs, half of the size.
_DROPPED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "var/lib/apt/lists",
    "var/cache/apt",
    "var/log",
    "etc/resolv.conf",
)


class BaseError(Exception):
    """No base image can be made here; the message says why."""


def release() -> str:
    """Return what the base is made of, such as `debian-bookworm`. Raises BaseError."""
    about = platform.freedesktop_os_release()
    if about["ID"] not in ("debian", "ubuntu") or not about.get("VERSION_CODENAME"):
        message = f"a base image is made on Debian and Ubuntu, not on {about.get('PRETTY_NAME', about['ID'])}"
        raise BaseError(message)
    return f"{about['ID']}-{about['VERSION_CODENAME']}"


def make_base(folder: Path, log: Path) -> None:
    """Fill an empty folder with the files of a base image. Raises BaseError."""
    distribution, _, codename = release().partition("-")
    components = "main,universe" if distribution == "ubuntu" else "main"
    command = [
        *("debootstrap", "--variant=minbase", f"--components={components}"),
        *(f"--include={','.join(_PACKAGES)}", codename, str(folder), _mirror(distribution, codename)),
    ]
    with log.open("ab") as output:
        result = subprocess.run(
            command,
            env=os.environ | _proxies(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
    if result.returncode != 0:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or [
            "it said nothing"
        ]
        message = f"`{' '.join(command)}` failed: {last[0]} (all of it is in {log})"
        raise BaseError(message)
    for name in _DROPPED:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
            path.mkdir()
        else:
            path.unlink(missing_ok=True)
    version = re.match(r"python3\.(\d+)", (folder / "usr/bin/python3").resolve().name)
    if version is None or (3, int(version[1])) < _OLDEST_PYTHON:
        message = f"{distribution} {codename} has no Python {'.'.join(map(str, _OLDEST_PYTHON))} or later"
        raise BaseError(message)


def _mirror(distribution: str, codename: str) -> str:
    """Return the archive that this machine takes its packages from."""
    command = [
        "apt-get",
        "indextargets",
        "--format",
        "$(SITE) $(CODENAME) $(COMPONENT)",
        "Created-By: Packages",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in result.stdout.splitlines():
        site, _, rest = line.partition(" ")
        if rest == f"{codename} main":
            return site
    return "http://archive.ubuntu.com/ubuntu" if distribution == "ubuntu" else "http://deb.debian.org/debian"


def _proxies() -> dict[str, str]:
    """Return the proxies that apt was told of, for programs that ask the environment."""
    found = {}
    for scheme in ("http", "https"):
        command = ["apt-config", "shell", "PROXY", f"Acquire::{scheme}::Proxy"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        told = re.fullmatch(r"PROXY='(.*)'\s*", result.stdout)
        if told and told[1] != "DIRECT":
            found[f"{scheme}_proxy"] = told[1]
    return found
