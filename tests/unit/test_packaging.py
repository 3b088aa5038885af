"""The package as users get it: a wheel, an editable checkout, and a folder that kopf runs in file mode."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tracked(*places: str) -> list[str]:
    """What git tracks there."""
    command = ["git", "ls-files", "-z", "--", *places]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what git tracks, so that the checkout stays clean."""
    source = tmp_path_factory.mktemp("source")
    for name in tracked("operator", "pyproject.toml", "README.md", "LICENSE", "VERSION"):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    built = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(built),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return next(built.glob("*.whl"))


def test_the_wheel_holds_the_whole_package_under_its_import_name(wheel: Path) -> None:
    """Every module of operator/ and the data beside it, as crontabber_operator, and no folder `operator`."""
    with zipfile.ZipFile(wheel) as archive:
        shipped = set(archive.namelist())
    expected = {
        f"crontabber_{name}" for name in tracked("operator/*.py", "operator/*.json", "operator/page.*")
    }
    assert expected <= shipped
    assert not any(name.startswith("operator/") for name in shipped)


def test_the_installed_wheel_runs_its_commands(wheel: Path, tmp_path: Path) -> None:
    """`crontabber slots` and `crontabber crd` work from a wheel, away from the checkout."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv/bin/python"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    # Its dependencies are those that the tests run with.
    dependencies = Path(pytest.__file__).resolve().parents[1]
    environment = {"PYTHONPATH": f"{tmp_path / 'site'}:{dependencies}", "PATH": os.environ["PATH"]}
    start = "import sys; from crontabber_operator.cli import main; sys.exit(main())"

    def run(*arguments: str) -> str:
        return subprocess.run(
            [str(python), "-c", start, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert run("slots", "--frequency", "1d", "--after", "2026-11-24T00:00Z", "--count", "1") == (
        "2026-11-25T00:00:00Z\n"
    )
    assert run("crd") == (ROOT / "crds/crontabberjobs.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "arguments", [["operator/handlers.py"], ["-m", "crontabber_operator.handlers"]], ids=["file", "module"]
)
def test_kopf_loads_the_handlers(arguments: list[str]) -> None:
    """In both of kopf's modes the handlers import; without a cluster to log in to, the operator ends at once."""
    result = subprocess.run(
        [sys.executable, "-m", "kopf", "run", "-A", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "KUBECONFIG": "/nonexistent", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode != 0
    assert "Invalid kube-config" in result.stderr + result.stdout, result.stderr[-2000:]


def test_the_standard_library_keeps_its_operator_module() -> None:
    """With the checkout on sys.path, `import operator` still means the standard library's."""
    code = "import operator, sys; sys.exit('operator.py' not in operator.__file__)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=True)
    assert not (ROOT / "operator/__init__.py").exists()
