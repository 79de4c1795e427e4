"""k8s/terraform: in shape, valid for the AWS provider; its names are those of overlays and chart values."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[3]
TERRAFORM = PROJECT / "k8s" / "terraform"
PLUGINS = os.environ.get("TERRAFORM_PLUGIN_DIR", "")
KEPT = ("PATH", "HOME", "TMPDIR", "LANG")

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
needs_terraform = pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
needs_provider = pytest.mark.skipif(
    not Path(PLUGINS).is_dir() or not PLUGINS,
    reason="TERRAFORM_PLUGIN_DIR does not name the folder of provider plugins with the AWS provider",
)


def project_copy(folder: Path) -> Path:
    """A copy, so that no .terraform folder lands in the project."""
    return Path(shutil.copytree(TERRAFORM, folder / "terraform", ignore=shutil.ignore_patterns(".terraform")))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return project_copy(tmp_path)


def terraform(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Without this machine's CLI configuration, which may name a mirror or a file that is not there."""
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment |= {"CHECKPOINT_DISABLE": "1", "TF_CLI_CONFIG_FILE": os.devnull, "TF_IN_AUTOMATION": "1"}
    command = ["terraform", *arguments, "-no-color"]
    return subprocess.run(
        command, check=False, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


@needs_terraform
def test_it_is_formatted(copy: Path):
    checked = terraform(copy, "fmt", "-check", "-diff", "-recursive")

    assert checked.returncode == 0, checked.stdout


@needs_terraform
@needs_provider
def test_it_is_valid_for_the_provider(copy: Path):
    initialised = terraform(copy, "init", "-backend=false", "-input=false", f"-plugin-dir={PLUGINS}")
    assert initialised.returncode == 0, initialised.stderr

    validated = terraform(copy, "validate")

    assert validated.returncode == 0, validated.stdout + validated.stderr


@needs_terraform
@needs_provider
def test_validation_notices_an_argument_that_the_provider_does_not_know(copy: Path):
    (copy / "wrong.tf").write_text('resource "aws_sqs_queue" "wrong" {\n  retention = 1\n}\n')
    terraform(copy, "init", "-backend=false", "-input=false", f"-plugin-dir={PLUGINS}")

    validated = terraform(copy, "validate")

    assert validated.returncode != 0
    assert "retention" in validated.stderr


def source() -> str:
    return "\n".join(path.read_text() for path in sorted(TERRAFORM.glob("*.tf")))


def roles_of_terraform(environment: str) -> set[str]:
    """Names of the roles of service accounts and of Karpenter's nodes."""
    block = re.search(r"service_accounts = \{(.*?)\n  \}", source(), re.DOTALL)
    assert block is not None
    kinds = re.findall(r"^    ([a-z-]+) +=", block[1], re.MULTILINE)
    return {f"mlops-{environment}-{kind}" for kind in [*kinds, "node"]}


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_every_role_of_the_overlay_is_made(environment: str):
    settings = (PROJECT / "k8s" / "overlays" / environment / "settings.yaml").read_text()
    named = set(re.findall(rf"(?:role/|node_role: )(mlops-{environment}-[a-z-]+)", settings))

    assert named
    assert named <= roles_of_terraform(environment)


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_every_role_of_the_values_of_charts_is_made(environment: str):
    values = (PROJECT / "helm-values" / "environments" / f"{environment}.yaml").read_text()
    named = set(re.findall(r"arn:aws:iam::\d{12}:role/([a-z-]+)", values))

    assert named
    assert named <= roles_of_terraform(environment)


def trusted() -> dict[str, set[str]]:
    """Service accounts by the kind of role that they may take on."""
    block = re.search(r"service_accounts = \{(.*?)\n  \}", source(), re.DOTALL)
    assert block is not None
    lines = re.findall(r"^    ([a-z-]+) += (\[.*\])$", block[1], re.MULTILINE)
    return {kind: set(re.findall(r'[":]([a-z-]+)"', accounts)) for kind, accounts in lines}


def rendered(environment: str) -> list[dict[str, Any]]:
    command = ["kubectl", "kustomize", str(PROJECT / "k8s" / "overlays" / environment)]
    return [*yaml.safe_load_all(subprocess.run(command, check=True, capture_output=True, text=True).stdout)]


@needs_kubectl
@pytest.mark.parametrize("environment", ["staging", "production"])
def test_every_service_account_of_an_overlay_is_trusted_by_the_role_that_it_names(environment: str):
    given = {
        item["metadata"]["name"]: item["metadata"].get("annotations", {}).get("eks.amazonaws.com/role-arn", "")
        for item in rendered(environment)
        if item["kind"] == "ServiceAccount" and item["metadata"]["name"] not in ("postgres", "transformer")
    }
    kinds = trusted()

    assert given
    for account, arn in given.items():
        assert account in kinds[arn.rpartition(f"role/mlops-{environment}-")[2]], f"{account}: {arn}"


def test_no_tag_is_written_on_what_is_given():
    """Two environments of one VPC would take a shared key's value from each other, and fight its owner."""
    tagged = re.findall(r'resource "aws_ec2_tag" "\w+" \{(.*?)\n\}', source(), re.DOTALL)

    assert tagged
    assert [block for block in tagged if "var." in block] == []


@needs_kubectl
@pytest.mark.parametrize("environment", ["staging", "production"])
def test_nodes_are_made_in_subnets_by_id_and_by_the_clusters_own_security_group(environment: str):
    classes = [item["spec"] for item in rendered(environment) if item["kind"] == "EC2NodeClass"]

    assert classes
    for spec in classes:
        assert all(set(term) == {"id"} for term in spec["subnetSelectorTerms"])
        assert spec["securityGroupSelectorTerms"] == [{"tags": {"karpenter.sh/discovery": f"mlops-{environment}"}}]


def test_every_secret_that_external_secrets_reads_is_made():
    read = (PROJECT / "k8s" / "components" / "external-secrets" / "external-secrets.yaml").read_text()
    read += (PROJECT / "k8s" / "overlays" / "staging" / "postgres-secret.yaml").read_text()
    keys = set(re.findall(r"key: ([a-z-]+)(?:, property|\})", read))
    made = (TERRAFORM / "secrets.tf").read_text()

    assert keys
    assert [key for key in keys if not re.search(rf"^\s+(?:.*\{{ )?{key} += ", made, re.MULTILINE)] == []


def test_no_password_is_written_down():
    assigned = re.findall(r'(?:password|secret_key|secret_string)\s*=\s*"([^"]+)"', source())

    # Names of generated passwords, see secrets.tf
    assert set(assigned) <= {
        "dagster",
        "features",
        "mlflow",
        "mlflow-admin",
        "mlflow-client",
        "mlflow-session",
        "postgres",
    }
