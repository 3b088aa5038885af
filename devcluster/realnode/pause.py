"""PURE. The image of the container that holds a pod's network: one static program, nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def pause_image(program: bytes, name: str) -> bytes:
    """Return an archive, as `docker save` writes it, of an image that runs `catatonit -P`: wait, reap, end."""
    layer = _tar({"pause": program}, mode=0o755)
    configuration = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": ["/pause", "-P"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    described = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    return _tar(
        {
            "config.json": configuration,
            "layer.tar": layer,
            "manifest.json": json.dumps(described).encode(),
        }
    )


def _tar(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
