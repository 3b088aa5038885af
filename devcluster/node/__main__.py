"""The command line: ``python -m devcluster.node``. Reads arguments, sets up logging, runs the node."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from devcluster.node.api import ApiError, load_kubeconfig
from devcluster.node.images import ImageConfigError
from devcluster.node.node import Settings, StateInUseError, run_node


def main(arguments: list[str] | None = None) -> int:
    """Run a node; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m devcluster.node", description="A node that runs pods as local processes."
    )
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--name", required=True, help="the Node's name")
    parser.add_argument("--address", default="127.0.0.1", help="where logs are served, and the pods' IP")
    parser.add_argument("--port", type=int, default=0, help="where logs are served; 0: a free port")
    parser.add_argument("--state-dir", type=Path, required=True, help="for volumes and logs; one node each")
    parser.add_argument("--images", type=Path, help="JSON file: image name to directory and interpreter")
    parser.add_argument("--instant", action="store_true", help="finish pods at once, without processes")
    parser.add_argument(
        "--no-mounts",
        action="store_true",
        help="rewrite the paths of volumes even where containers could see them at their own paths",
    )
    options = parser.parse_args(arguments)
    if options.images is None and not options.instant:
        parser.error("--images is required without --instant")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings(
            access=load_kubeconfig(options.kubeconfig),
            name=options.name,
            address=options.address,
            port=options.port,
            state_directory=options.state_dir.absolute(),
            images=options.images,
            instant=options.instant,
            use_mounts=False if options.no_mounts else None,
        )
        asyncio.run(run_node(settings))
    except (StateInUseError, ImageConfigError, ApiError, OSError, ValueError, LookupError) as error:
        print(f"devcluster node: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
