"""Where the end-to-end tests run: real containers if there can be any, otherwise the devcluster's process node.

A site is a cluster that has the images: of the operator, of the sample web app, and of the tests' own command. It
installs nothing. CRONTABBER_E2E_NODE asks for one kind and then nothing else will do.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devcluster import Cluster, ClusterError, LocalImage, kind
from devcluster.build import BuildError
from devcluster.imagebuild.buildah import ImageBuildError, build_image
from devcluster.kind import KindCluster
from devcluster.realnode import prerequisites
from tests.integration.chart_release import free_ports, own_image
from tests.integration.operator_process import ROOT

ASKED = "CRONTABBER_E2E_NODE"
KEPT = "CRONTABBER_E2E_CLUSTER"
WORK = ROOT / "build" / "e2e"
VERSION = (ROOT / "VERSION").read_text(encoding="utf-8").strip()
COMMAND_APP = ROOT / "tests" / "integration" / "command_app"


@dataclass(frozen=True)
class Image:
    """An image that is built from a Dockerfile of this repository."""

    name: str
    folder: Path
    dockerfile: Path
    arguments: dict[str, str] = field(default_factory=dict)


IMAGES = (
    Image(f"crontabber-operator:{VERSION}", ROOT, ROOT / "Dockerfile", {"VERSION": VERSION}),
    Image("webapp", ROOT / "webapp", ROOT / "webapp" / "Dockerfile"),
    Image("app", COMMAND_APP, ROOT / "tests" / "e2e" / "app" / "Dockerfile"),
)


@dataclass(frozen=True)
class Site:
    """A cluster with all images."""

    cluster: Any
    """A `Cluster` or a `KindCluster`."""
    what: str
    """What runs there, in words."""
    runs_containers: bool
    chart_values: tuple[str, ...] = ()
    """What the chart must be told here."""


class SiteError(Exception):
    """The site that was asked for can't be had."""


@contextmanager
def site(tell: Callable[[str], None]) -> Iterator[Site]:
    """Return the best site that can be had. Raises SiteError, but only where a certain one was asked for."""
    asked = os.environ.get(ASKED, "auto")
    if asked not in ("auto", *SITES):
        raise SiteError(f"{ASKED}={asked}: it is one of auto, {', '.join(SITES)}")
    with contextlib.ExitStack() as stack:
        made = None
        lacks = []
        for name in SITES if asked == "auto" else [asked]:
            try:
                made = stack.enter_context(SITES[name]())
            except (SiteError, ClusterError, ImageBuildError, BuildError) as error:
                lacks.append(f"{name}: {error}")
                if asked != "auto" or name == "process":
                    raise SiteError(lacks[-1]) from error
            else:
                break
        assert made is not None
        why = f" ({'; '.join(lacks)})" if lacks else ""
        tell(f"The installed chart is tested on {made.what}{why}.")
        yield made


@contextmanager
def _kind() -> Iterator[Site]:
    """Use Docker and kind; the cluster stays up, for the next time."""
    lacks = kind.missing()
    if lacks is not None:
        raise SiteError(lacks)
    cluster = KindCluster.up(WORK)
    for image in IMAGES:
        cluster.build_and_load(
            image.name, image.folder, dockerfile=image.dockerfile, arguments=image.arguments
        )
    yield Site(cluster, "real containers (kind)", runs_containers=True)


@contextmanager
def _containerd() -> Iterator[Site]:
    """Make a node of real containers, for which nothing but packages is needed."""
    try:
        prerequisites.ensure()
    except prerequisites.MissingError as error:
        raise SiteError(str(error)) from error
    archives = [
        build_image(image.name, image.folder, dockerfile=image.dockerfile, arguments=image.arguments)
        for image in IMAGES
    ]
    kept = os.environ.get(KEPT)
    with contextlib.ExitStack() as stack:
        if kept:
            cluster = Cluster.attach(kept)
        else:
            cluster = stack.enter_context(Cluster.start(f"e2e-{os.getpid()}", node="containerd"))
        for archive in archives:
            cluster.load(archive)
        yield Site(cluster, "real containers (containerd)", runs_containers=True)


@contextmanager
def _process() -> Iterator[Site]:
    """Use the devcluster's own node, with the checkout in the images' place."""
    images = {
        "crontabber-operator": own_image(),
        "webapp": LocalImage.of(ROOT / "webapp", sys.executable, working_directory="/app"),
        "app": LocalImage.of(COMMAND_APP),
    }
    kept = os.environ.get(KEPT)
    with contextlib.ExitStack() as stack:
        if kept:
            cluster = Cluster.attach(kept)
            cluster.set_images(images)
        else:
            cluster = stack.enter_context(Cluster.start(f"e2e-{os.getpid()}", images=images))
        # Pods share this machine's ports.
        # Pods share this machine's ports: there can be one operator at a time.
        health, metrics = free_ports(2)
        values = (f"--set=health.port={health},metrics.port={metrics},strategy.type=Recreate",)
        yield Site(cluster, "pods that are local processes", runs_containers=False, chart_values=values)


#: The best first.
SITES = {"kind": _kind, "containerd": _containerd, "process": _process}
