"""Which directory an image name stands for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from devcluster.node.images import ImageConfigError, Images


def write(path: Path, content: Any) -> Path:
    """Write a file of images, surely with another time than before."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    os.utime(path, ns=(before + 10**9, before + 10**9))
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("webapp", "plain"),
        ("webapp:2", "two"),
        ("webapp:3", "plain"),
        ("webapp:2@sha256:abc", "two"),
        ("webapp@sha256:abc", "plain"),
        ("host:5000/team/site", "site"),
        ("host:5000/team/site:v1", "site"),
        ("host:5000/team/other", None),
        ("host", None),
        ("team/webapp", None),
        ("", None),
    ],
)
def test_an_image_is_found_exactly_or_without_its_tag(
    tmp_path: Path, name: str, expected: str | None
) -> None:
    """A registry's port is no tag."""
    entries = {
        "webapp": {"directory": "plain"},
        "webapp:2": {"directory": "two"},
        "host:5000/team/site": {"directory": "site"},
    }
    image = Images(write(tmp_path / "images.json", entries)).find(name)
    assert (image.directory if image else None) == (tmp_path / expected if expected else None)


def test_all_of_an_image_is_read(tmp_path: Path) -> None:
    """What its Dockerfile would set is there too; a link to an interpreter is kept as it is."""
    entry = {
        "directory": "/srv/site",
        "python": "/srv/venv/bin/python",
        "workingDir": "/app",
        "env": {"A": "1"},
        "entrypoint": ["./run"],
        "cmd": ["web"],
    }
    image = Images(write(tmp_path / "images.json", {"site": entry})).find("site")
    assert image is not None
    assert (image.directory, image.python) == (Path("/srv/site"), Path("/srv/venv/bin/python"))
    assert image.working_directory == "/app"
    assert (image.environment, image.entrypoint, image.command) == ({"A": "1"}, ("./run",), ("web",))


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """An image can be added, changed and removed while the node runs."""
    path = write(tmp_path / "images.json", {})
    images = Images(path)
    assert images.find("webapp") is None
    write(path, {"webapp": {"directory": "one"}})
    found = images.find("webapp")
    assert found is not None
    assert found.directory == tmp_path / "one"
    write(path, {})
    assert images.find("webapp") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "images.json"),
        ([], "expected an object"),
        ({"webapp": "dir"}, "webapp: expected"),
        ({"webapp": {"python": "p"}}, "webapp: expected"),
        ({"webapp": {"directory": "d", "workdir": "/app"}}, "unknown: workdir; known are cmd, directory"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, content: Any, message: str) -> None:
    """At the start, and when it is changed to something wrong later."""
    with pytest.raises(ImageConfigError, match=message):
        Images(write(tmp_path / "images.json", content))
    images = Images(write(tmp_path / "images.json", {}))
    write(tmp_path / "images.json", content)
    with pytest.raises(ImageConfigError, match=message):
        images.find("webapp")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """The message names it."""
    with pytest.raises(ImageConfigError, match=r"none\.json"):
        Images(tmp_path / "none.json")
