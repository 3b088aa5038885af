"""The job manifests in jobs/ and examples/socorro/ are the listed ones, and the operator reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from crontabber_operator.models import Spec

REPOSITORY = Path(__file__).resolve().parents[2]
JOBS = REPOSITORY / "jobs"
SOCORRO = REPOSITORY / "examples" / "socorro"


class Listed(NamedTuple):
    """What one job is to be."""

    command: str
    frequency: str
    time: str | None = None
    backfill: bool = False
    pass_last_success: bool = False

    @property
    def name(self) -> str:
        """The resource's name: a command's name with no underscore in it."""
        return self.command.replace("_", "-")


SAMPLE = (
    Listed("crontest", "1d"),
    Listed("clearsessions", "7d", "05:00"),
    Listed("auditgroups", "1d", "05:00"),
    Listed("updatesignatures", "1h", backfill=True, pass_last_success=True),
    Listed("bugassociations", "1h", pass_last_success=True),
    Listed("verifyprocessed", "1d", "04:00", backfill=True),
    Listed("updatemissing", "1d", "03:00"),
)
ONLY_SOCORRO = (
    Listed("update_graphics_pci", "7d", "04:00"),
    Listed("cleanse_cronlog", "7d", "05:00"),
    Listed("esclean", "7d", "06:00"),
    Listed("archivescraper", "1h"),
)
IN_FOLDERS = [
    *(pytest.param(JOBS, each, id=f"jobs-{each.name}") for each in SAMPLE),
    *(pytest.param(SOCORRO, each, id=f"socorro-{each.name}") for each in (*SAMPLE, *ONLY_SOCORRO)),
]


def _load(path: Path) -> dict[str, Any]:
    (resource,) = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    assert isinstance(resource, dict)
    return resource


@pytest.mark.parametrize(
    ("folder", "listed"),
    [pytest.param(JOBS, SAMPLE, id="jobs"), pytest.param(SOCORRO, (*SAMPLE, *ONLY_SOCORRO), id="socorro")],
)
def test_folder_holds_the_listed_jobs_and_no_other(folder: Path, listed: tuple[Listed, ...]) -> None:
    """`kubectl apply -f` on the folder makes exactly these."""
    files = sorted(path.name for path in folder.iterdir() if path.suffix in {".yaml", ".yml", ".json"})
    assert files == sorted(f"{each.name}.yaml" for each in listed)


@pytest.mark.parametrize(("folder", "listed"), IN_FOLDERS)
def test_manifest_says_what_is_listed(folder: Path, listed: Listed) -> None:
    """The operator reads it without a mistake, as the command, frequency and time of the list."""
    resource = _load(folder / f"{listed.name}.yaml")
    assert (resource["apiVersion"], resource["kind"]) == ("crontabber.dev/v1", "CrontabberJob")
    assert resource["metadata"] == {"name": listed.name}
    spec = Spec.read(resource["spec"], name=listed.name)
    assert (spec.command, spec.frequency, spec.time, spec.backfill, spec.pass_last_success) == listed
    assert spec.is_gated == (listed.backfill or listed.pass_last_success)
    prefix = ("python", "webapp/manage.py") if folder == SOCORRO else None
    assert spec.manage_py == prefix


@pytest.mark.parametrize(("folder", "listed"), IN_FOLDERS)
def test_manifest_has_no_field_that_the_operator_does_not_know(folder: Path, listed: Listed) -> None:
    """A misspelt field would be pruned by the API server in silence."""
    spec = _load(folder / f"{listed.name}.yaml")["spec"]
    expected = {"command", "frequency"}
    expected |= {"time"} if listed.time else set()
    expected |= {"backfill"} if listed.backfill else set()
    expected |= {"passLastSuccess"} if listed.pass_last_success else set()
    expected |= {"managePy"} if folder == SOCORRO else set()
    assert spec.keys() == expected


def test_weekly_jobs_run_on_mondays() -> None:
    """What the README says of seven days is what the operator does."""
    spec = Spec.read(_load(JOBS / "clearsessions.yaml")["spec"], name="clearsessions")
    slot = spec.slots.next_after(datetime(2026, 11, 24, 12, 0, tzinfo=UTC))
    assert slot == datetime(2026, 11, 30, 5, 0, tzinfo=UTC)


def test_kustomization_takes_all_that_is_in_the_folder() -> None:
    """`kubectl apply -k examples/socorro` makes the jobs, the Deployment and the ConfigMap that it reads."""
    kustomization = _load(SOCORRO / "Kustomization")
    jobs = {path.name for path in SOCORRO.glob("*.yaml")}
    assert set(kustomization["resources"]) == jobs | {"webapp/deployment.yaml"}
    (generated,) = kustomization["configMapGenerator"]
    assert generated["envs"] == ["webapp.env"]
    deployment = _load(SOCORRO / "webapp" / "deployment.yaml")
    assert deployment["metadata"]["name"] == "webapp"
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {"configMapRef": {"name": generated["name"]}} in container["envFrom"]
    assert [image["name"] for image in kustomization["images"]] == [container["image"]]


def test_environment_file_is_one_that_kubectl_reads() -> None:
    """`--from-env-file` takes NAME=value lines as they stand: quotes would become part of the value."""
    lines = (SOCORRO / "webapp.env").read_text(encoding="utf-8").splitlines()
    values = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert "ALLOWED_HOSTS" in values
    assert not [name for name, value in values.items() if value != value.strip(" \"'")]
    assert not values.keys() & {"SECRET_KEY", "DATABASE_URL", "BZAPI_TOKEN", "SENTRY_DSN"}


def test_sample_deployment_is_what_the_jobs_look_for() -> None:
    """The jobs name no web app, so they run in the first container of the Deployment `webapp`."""
    deployment = _load(REPOSITORY / "webapp" / "k8s" / "deployment.yaml")
    assert (deployment["kind"], deployment["metadata"]["name"]) == ("Deployment", "webapp")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "webapp"
    config = _load(REPOSITORY / "webapp" / "k8s" / "configmap.yaml")
    references = [{"configMapRef": {"name": config["metadata"]["name"]}}, {"secretRef": {"name": "webapp"}}]
    assert container["envFrom"] == references
    assert not config["data"].keys() & {"SECRET_KEY", "DATABASE_URL"}
    service = _load(REPOSITORY / "webapp" / "k8s" / "service.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_sample_deployment_meets_the_restricted_pod_security_standard() -> None:
    """A namespace that enforces `restricted` admits the web app, and the jobs that copy its pods."""
    pod = _load(REPOSITORY / "webapp" / "k8s" / "deployment.yaml")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*pod["initContainers"], *pod["containers"]):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
