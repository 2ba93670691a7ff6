"""What cannot be run in a test is checked against its schema; and nothing has a default password."""

import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from sweeps.cli import main
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
KUBERNETES = "1.33"


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def pods_of_ray(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}} | group["template"] for group in groups]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_kubernetes_would_take_the_manifest(path: Path) -> None:
    for document in documents(path):
        for each in pods_of_ray(document) if document["kind"] == "RayJob" else [document]:
            kubernetes_validate.validate(each, KUBERNETES, strict=True)
        assert document["metadata"]["namespace"] == "sweeps"


def commands() -> list[str]:
    compose = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())
    written = [(DEPLOY / "slurm/sweep.sbatch").read_text(), (DEPLOY / "compose/compose.yaml").read_text()]
    written += [path.read_text() for path in MANIFESTS]
    assert set(compose["services"]) == {"postgres", "mlflow", "proxy", "ray-head", "ray-node"}
    found = re.findall(r"sweep\W+(?:run|worker)\b.*", "\n".join(written))
    return [" ".join(re.findall(r"[\w.{}$:?/-]+", line)) for line in found]


def test_the_commands_are_ours() -> None:
    found = commands()
    assert len(found) >= 5
    for command in found:
        options = set(re.findall(r"--[a-z-]+", command))
        known = {option for each in main.commands[command.split()[1]].params for option in each.opts}
        assert options <= known, command


def test_no_secret_has_a_value() -> None:
    (secret,) = documents(DEPLOY / "kubernetes/secrets.example.yaml")
    for name, value in secret["stringData"].items():
        assert value in ("", "admin") or ":PASSWORD@" in value, name
    example = (DEPLOY / "compose/example.env").read_text().splitlines()
    assert all(line.endswith("=") for line in example if line and not line.startswith("#"))
    compose = (DEPLOY / "compose/compose.yaml").read_text()
    named = set(re.findall(r"\$\{(\w+)", compose))
    assert named == set(re.findall(r"\$\{(\w+):\?", compose))  # it does not start without them
    assert named == {line.removesuffix("=") for line in example if line.endswith("=")}


def test_the_job_file_is_a_shell_script() -> None:
    subprocess.run(["bash", "-n", DEPLOY / "slurm/sweep.sbatch"], check=True)


def test_the_image_of_ray_is_the_version_that_is_pinned() -> None:
    (job,) = documents(DEPLOY / "kubernetes/rayjob.yaml")
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned and job["spec"]["rayClusterSpec"]["rayVersion"] == pinned[1]
