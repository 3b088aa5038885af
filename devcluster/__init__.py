"""devcluster: a real Kubernetes without containers, for development, tests and benchmarks.

`from devcluster import Cluster` is all that tests and benchmarks need; see docs/devcluster.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devcluster.cluster import AlreadyUpError, Cluster, ClusterError, NoClusterError
    from devcluster.images import LocalImage

__all__ = ["AlreadyUpError", "Cluster", "ClusterError", "LocalImage", "NoClusterError"]


def __getattr__(name: str) -> object:
    """Import what is asked for only then: the supervisor and the node need little of this package."""
    if name in __all__:
        module = "images" if name == "LocalImage" else "cluster"
        return getattr(importlib.import_module(f"devcluster.{module}"), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
