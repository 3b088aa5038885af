"""Paths of volumes are rewritten where a container can't have a file system view of its own."""

from __future__ import annotations

import pytest

from devcluster.node.pathmap import PathMap

PATHS = PathMap(
    {
        "/etc/app": "/pod/volumes/config",
        "/etc/app/tls": "/pod/volumes/tls",
        "/data": "/pod/volumes/data",
        "/dev/termination-log": "/pod/0.termination",
        "/a.b": "/pod/volumes/dotted",
    }
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/etc/app", "/pod/volumes/config"),
        ("/etc/app/", "/pod/volumes/config/"),
        ("/etc/app/x.ini", "/pod/volumes/config/x.ini"),
        ("/etc/app/tls/key", "/pod/volumes/tls/key"),
        ("/etc/apple", "/etc/apple"),
        ("/etc/app.d/x", "/etc/app.d/x"),
        ("/etc/app-x", "/etc/app-x"),
        ("/srv/etc/app", "/srv/etc/app"),
        ("relative/data/x", "relative/data/x"),
        ("../data/x", "../data/x"),
        ("--config=/etc/app/x", "--config=/pod/volumes/config/x"),
        ("/usr/bin:/data/bin:/etc/app", "/usr/bin:/pod/volumes/data/bin:/pod/volumes/config"),
        ("cat /etc/app/x > /dev/termination-log", "cat /pod/volumes/config/x > /pod/0.termination"),
        ("open('/dev/termination-log')", "open('/pod/0.termination')"),
        ("sqlite:////data/db.sqlite3", "sqlite:////pod/volumes/data/db.sqlite3"),
        ("file:///data/x", "file:///pod/volumes/data/x"),
        ("http://host/data", "http://host/data"),
        ("https://host:80/data/x", "https://host:80/data/x"),
        ("/aXb/data", "/aXb/data"),
        ("/a.b/c", "/pod/volumes/dotted/c"),
        ("no path", "no path"),
        ("", ""),
    ],
)
def test_whole_leading_paths_are_rewritten(text: str, expected: str) -> None:
    """A mountPath counts as a whole leading part of a path, and nothing else is touched."""
    assert PATHS.rewrite(text) == expected


def test_what_is_put_in_is_not_rewritten_again() -> None:
    """A real path that begins like another mountPath stays as it is."""
    paths = PathMap({"/a": "/b/real", "/b": "/c/real"})
    assert paths.rewrite("/a /b") == "/b/real /c/real"


def test_without_mounts_nothing_changes() -> None:
    """A container without volumes keeps its words."""
    assert PathMap({}).rewrite("/etc/app") == "/etc/app"


def test_a_volume_over_the_root_is_not_mapped() -> None:
    """Every path begins with "/": mapping it would break the command itself."""
    assert PathMap({"/": "/pod/volumes/root"}).rewrite("/usr/bin/env") == "/usr/bin/env"
