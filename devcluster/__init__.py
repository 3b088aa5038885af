"""devcluster: a real Kubernetes without containers, for development, tests and benchmarks."""

from devcluster.cluster import AlreadyUpError, Cluster, ClusterError, NoClusterError
from devcluster.images import LocalImage

__all__ = ["AlreadyUpError", "Cluster", "ClusterError", "LocalImage", "NoClusterError"]
