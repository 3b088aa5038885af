"""The machine's settings for pip, for a build inside of an image: which index, which certificates."""

from __future__ import annotations

import configparser
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Settings that say where packages come from. Folders of this machine (find-links) mean nothing in an image.
_TAKEN = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")

#: Where the certificates are in the image while it is built.
CERTIFICATES = "/etc/pip-certificates.crt"


@dataclass(frozen=True, slots=True)
class PipSettings:
    """What pip is told inside of an image."""

    text: str
    """A pip.conf."""
    certificates: Path | None
    """A bundle of this machine's, which the text names as `CERTIFICATES`."""


def pip_settings(environment: Mapping[str, str] = os.environ, files: list[Path] | None = None) -> PipSettings:
    """Return the machine's settings: of its pip.conf files, the later ones first asked, and PIP_… variables."""
    found: dict[str, str] = {}
    for path in _files(environment) if files is None else files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except configparser.Error:
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                found |= dict(parser.items(section))
    for name, value in environment.items():
        if name.startswith("PIP_") and value:
            found[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    lines = ["[global]"]
    lines += [f"{name} = {' '.join(found[name].split())}" for name in _TAKEN if found.get(name)]
    bundle = found.get("cert") or environment.get("REQUESTS_CA_BUNDLE")
    certificates = Path(bundle) if bundle and Path(bundle).is_file() else None
    if certificates is not None:
        lines.append(f"cert = {CERTIFICATES}")
    return PipSettings("\n".join(lines) + "\n", certificates)


def _files(environment: Mapping[str, str]) -> list[Path]:
    """Return where pip looks on this machine, in its order: what is read later counts."""
    home = Path.home()
    own = environment.get("PIP_CONFIG_FILE")
    return [
        *(
            Path(folder) / "pip" / "pip.conf"
            for folder in environment.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")
        ),
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf",
        Path(sys.prefix) / "pip.conf",
        *([Path(own)] if own and own != os.devnull else []),
    ]
