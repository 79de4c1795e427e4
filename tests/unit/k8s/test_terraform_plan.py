"""k8s/terraform: what a plan says that it would make, and what its policies allow. AWS is moto; nothing is applied."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from resources.lake.lake_checkpoints import CHECKPOINTS
from tests.iam import is_allowed
from tests.unit.k8s.test_terraform import PLUGINS, TERRAFORM, needs_provider, needs_terraform, project_copy, terraform

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [needs_terraform, needs_provider]

VARIABLES = {
    "environment": "production",
    "vpc_id": "vpc-0123456789abcdef0",
    "private_subnet_ids": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
    "admin_role_arns": ["arn:aws:iam::111122223333:role/platform"],
    "kubernetes_version": "1.37",
    "addon_versions": {"coredns": "v1.99.0-eksbuild.1"},
    "source_bucket_arns": ["arn:aws:s3:::flights"],
    "tags": {"cost-centre": "ml"},
}
TAGS = {"cost-centre": "ml", "project": "mlops-assets", "environment": "production"}
# moto has no versions of add-ons: the data source is left out, and one version stands for what EKS would recommend
STAND_IN = """
provider "aws" {{
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  endpoints {{
    sts = "{url}"
    secretsmanager = "{url}"
  }}
}}
data "aws_eks_addon_version" "this" {{
  for_each = {{}}
}}
locals {{
  recommended = {{ for name in keys(merge(local.addons.network, local.addons.workload)) : name => "v1.0.0-eksbuild.1" }}
}}
"""


class Plan(NamedTuple):
    """Resources by their address, and outputs as far as they are known."""

    resources: dict[str, dict[str, Any]]
    outputs: dict[str, Any]

    def policies(self, kind: str) -> list[dict[str, Any]]:
        """What is said about the bucket to a kind of pods: by its role and by the bucket itself."""
        texts = (f'aws_iam_role_policy.bucket_access["{kind}"]', "aws_s3_bucket_policy.this")
        return [json.loads(self.resources[text]["policy"]) for text in texts]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Plan:
    return planned(project_copy(tmp_path_factory.mktemp("plan")), s3_endpoint, {})


def planned(folder: Path, endpoint: str, variables: dict[str, Any]) -> Plan:
    (folder / "stand_in_override.tf").write_text(STAND_IN.format(url=endpoint))
    (folder / "terraform.tfvars.json").write_text(json.dumps(VARIABLES | variables))
    for arguments in (("init", "-backend=false", f"-plugin-dir={PLUGINS}"), ("plan", "-input=false", "-out=plan")):
        done = terraform(folder, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    values = json.loads(terraform(folder, "show", "-json", "plan").stdout)["planned_values"]
    # Generated passwords are in no plan
    made = [item for item in values["root_module"]["resources"] if "values" in item]
    resources = {item["address"]: item["values"] for item in made}
    return Plan(resources, {name: output.get("value") for name, output in values["outputs"].items()})


def bucket(key: str = "") -> str:
    return f"arn:aws:s3:::mlops-production-123456789012{key and '/'}{key}"


READ, WRITE, DELETE = "s3:GetObject", "s3:PutObject", "s3:DeleteObject"
CHECKPOINT = "lake/checkpoints/iris/trained_model/0123456789abcdef/checkpoint-1"
LOGGED = "lake/inference/iris/2026/11/17/09/server-1.parquet"
TRAFFIC, OBSERVED = "lake/traffic/iris/traffic.json", "lake/observed/iris/a/server.json"
HANDLE, SERVED = "lake/iris/features/handles/latest.json", "lake/served/iris/3/model.onnx"
LOG, ARTIFACT, LEDGER = "compute-logs/storage/run/step.out", "mlflow/1/model.onnx", "lake/iris/ledger/00000001.json"
RETRAIN = "lake/retrains/iris/drift/2026-11-17.json"
LAKE = {CHECKPOINT, HANDLE, SERVED, LOGGED, LEDGER, TRAFFIC, OBSERVED, RETRAIN}


@pytest.mark.parametrize(
    ("kind", "rights"),
    [
        ("control", {READ: {*LAKE, LOG}, WRITE: {LOG, RETRAIN}, DELETE: {LOG, RETRAIN}}),
        ("webserver", {READ: {LOG}, WRITE: set(), DELETE: set()}),
        (
            "pipeline",
            {
                READ: {*LAKE, LOG, ARTIFACT},
                WRITE: {*LAKE, LOG, ARTIFACT} - {LEDGER, SERVED, TRAFFIC},
                DELETE: {*LAKE, LOG, ARTIFACT} - {LEDGER, SERVED, TRAFFIC},
            },
        ),
        (
            "deployer",
            {
                READ: {*LAKE, LOG, ARTIFACT},
                WRITE: {*LAKE, LOG, ARTIFACT} - {LEDGER},
                DELETE: {*LAKE, LOG, ARTIFACT} - {LEDGER},
            },
        ),
        ("exporter", {READ: LAKE, WRITE: set(), DELETE: set()}),
        ("mlflow", {READ: {ARTIFACT}, WRITE: set(), DELETE: set()}),
        ("predictor", {READ: {SERVED, TRAFFIC}, WRITE: {LOGGED, OBSERVED}, DELETE: set()}),
        ("workflows", {READ: {"argo/a"}, WRITE: {"argo/a"}, DELETE: {"argo/a"}}),
    ],
)
def test_a_pod_may_do_what_it_does_and_no_more(plan: Plan, kind: str, rights: dict[str, set[str]]):
    keys = {*LAKE, LOG, ARTIFACT, "argo/a", "elsewhere/a"}
    found = {
        action: {
            key for key in keys if is_allowed(plan.policies(kind), action, bucket(key), aws_SecureTransport="true")
        }
        for action in rights
    }

    assert found == rights


def test_every_kind_of_pod_that_uses_the_bucket_is_judged_above(plan: Plan):
    kinds = {address.split('"')[1] for address in plan.resources if ".bucket_access[" in address}

    assert kinds == {"control", "webserver", "pipeline", "deployer", "exporter", "mlflow", "predictor", "workflows"}


@pytest.mark.parametrize("kind", ["pipeline", "deployer"])
def test_a_ledger_is_appended_to_and_never_overwritten(plan: Plan, kind: str):
    policies = plan.policies(kind)
    everything = [{"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}, policies[1]]

    assert is_allowed(policies, WRITE, bucket(LEDGER), s3_if_none_match="*")
    assert not is_allowed(policies, WRITE, bucket(LEDGER))
    assert not is_allowed(everything, WRITE, bucket(LEDGER))


@pytest.mark.parametrize("kind", ["pipeline", "deployer", "predictor", "control"])
def test_nobody_deletes_for_good_or_speaks_without_tls(plan: Plan, kind: str):
    policies = plan.policies(kind)

    assert not is_allowed(policies, "s3:DeleteObjectVersion", bucket(SERVED))
    assert is_allowed(policies, READ, bucket(SERVED), aws_SecureTransport="true")
    assert not is_allowed(policies, READ, bucket(SERVED), aws_SecureTransport="false")


@pytest.mark.parametrize("kind", ["pipeline", "deployer", "control", "exporter"])
def test_what_is_not_in_the_lake_yet_is_missing_and_not_forbidden(plan: Plan, kind: str):
    """S3 answers 404 only to those who may list the bucket without a condition."""
    assert is_allowed(plan.policies(kind), "s3:ListBucket", bucket())


def test_others_list_their_own_prefixes_alone(plan: Plan):
    policies = plan.policies("webserver")

    assert is_allowed(policies, "s3:ListBucket", bucket(), s3_prefix="compute-logs/storage/run")
    assert not is_allowed(policies, "s3:ListBucket", bucket(), s3_prefix="lake/iris")
    assert not is_allowed(policies, "s3:ListBucket", bucket())


def test_sources_elsewhere_are_read_by_steps_alone(plan: Plan):
    kinds = ("control", "webserver", "pipeline", "deployer", "exporter", "mlflow", "predictor", "workflows")

    def who_may(action: str, resource: str) -> set[str]:
        return {kind for kind in kinds if is_allowed(plan.policies(kind), action, resource)}

    assert who_may(READ, "arn:aws:s3:::flights/2015.parquet") == {"pipeline", "deployer"}
    assert who_may("s3:ListBucket", "arn:aws:s3:::flights") == {"pipeline", "deployer", "control"}


def test_partial_logs_and_checkpoints_do_not_stay_for_a_month(plan: Plan):
    rules = {rule["id"]: rule for rule in plan.resources["aws_s3_bucket_lifecycle_configuration.this"]["rule"]}
    short = {rule["filter"][0]["prefix"]: rule["noncurrent_version_expiration"] for rule in rules.values()}

    assert CHECKPOINT.startswith(f"lake/{CHECKPOINTS}/")
    for prefix in ("compute-logs/", f"lake/{CHECKPOINTS}/"):
        assert short[prefix][0]["noncurrent_days"] == 1
    assert rules["old-versions"]["noncurrent_version_expiration"][0]["noncurrent_days"] == 30


def test_nodes_and_addons_follow_the_cluster(plan: Plan):
    group = plan.resources["aws_eks_node_group.system"]
    addons = {
        item["addon_name"]: item for address, item in plan.resources.items() if address.startswith("aws_eks_addon.")
    }

    assert plan.resources["aws_eks_cluster.this"]["version"] == group["version"] == "1.37"
    assert "/1.37/" in plan.resources["data.aws_ssm_parameter.system_release"]["name"]
    assert {name: item["addon_version"] for name, item in addons.items()} == dict.fromkeys(
        addons, "v1.0.0-eksbuild.1"
    ) | {"coredns": "v1.99.0-eksbuild.1"}
    assert "eks-node-monitoring-agent" in addons


def test_system_nodes_are_for_what_tolerates_them(plan: Plan):
    group = plan.resources["aws_eks_node_group.system"]
    tolerated = [{"key": "CriticalAddonsOnly", "operator": "Exists"}]
    settings = {
        name: json.loads(plan.resources[f'aws_eks_addon.workload["{name}"]']["configuration_values"])
        for name in ("cert-manager", "metrics-server")
    }

    assert group["taint"] == [{"key": "CriticalAddonsOnly", "value": "true", "effect": "NO_SCHEDULE"}]
    assert settings["metrics-server"]["tolerations"] == tolerated
    assert [settings["cert-manager"][part]["tolerations"] for part in ("webhook", "cainjector")] == [tolerated] * 2


def test_everything_that_costs_carries_the_tags(plan: Plan):
    template = plan.resources["aws_launch_template.system"]["tag_specifications"]
    driver = json.loads(plan.resources['aws_eks_addon.workload["aws-ebs-csi-driver"]']["configuration_values"])
    taggable = [item["tags_all"] for item in plan.resources.values() if "tags_all" in item]

    assert {item["resource_type"] for item in template} == {"instance", "volume", "network-interface"}
    assert all(item["tags"].items() >= TAGS.items() for item in template)
    assert driver["controller"]["extraVolumeTags"] == plan.outputs["tags"] == TAGS
    assert all(tags.items() >= TAGS.items() for tags in taggable)


def test_aurora_takes_a_new_major(plan: Plan):
    cluster, group = (
        plan.resources["aws_rds_cluster.this[0]"],
        plan.resources["aws_rds_cluster_parameter_group.this[0]"],
    )

    assert cluster["allow_major_version_upgrade"]
    assert cluster["apply_immediately"]
    assert plan.resources["aws_rds_cluster_instance.this[0]"]["apply_immediately"]
    # Two groups live side by side while the cluster changes from one to the other
    assert group["name_prefix"] == "mlops-production-"
    assert group["family"] == "aurora-postgresql17"


def test_no_log_group_keeps_for_ever(plan: Plan):
    groups = {item["name"]: item for address, item in plan.resources.items() if "aws_cloudwatch_log_group" in address}
    made = ["/aws/eks/mlops-production/cluster", "/aws/rds/cluster/mlops-production/postgresql"]

    assert sorted(groups) == made
    assert [groups[name]["retention_in_days"] for name in made] == [90, 90]


def test_staging_has_no_aurora_and_nothing_of_production(tmp_path: Path, s3_endpoint: str):
    staging = planned(project_copy(tmp_path), s3_endpoint, {"environment": "staging", "aurora": None})

    assert not [address for address in staging.resources if "rds" in address]
    assert "production" not in json.dumps([staging.resources, staging.outputs])


def test_the_locked_provider_is_the_one_that_was_tried(tmp_path: Path):
    copy = project_copy(tmp_path)

    done = terraform(copy, "init", "-backend=false", "-input=false", "-lockfile=readonly", f"-plugin-dir={PLUGINS}")

    assert done.returncode == 0, done.stderr
    assert (copy / ".terraform.lock.hcl").read_text() == (TERRAFORM / ".terraform.lock.hcl").read_text()


WRONG: dict[str, Any] = {
    "viewer_role_arns": VARIABLES["admin_role_arns"],
    "public_access_cidrs": ["203.0.113.0/24", "10.0.0.0/8"],
    "system_instance_types": ["m7g.large"],
    "compute_log_days": 1.5,
    "tags": {"aws:cost-centre": "ml"},
    "aurora": {
        "engine_version": "latest",
        "min_acu": 0.7,
        "readers": 1.5,
        "backup_days": 7.5,
        "maintenance_window": "xyz:03:00-sun:04:00",
    },
}
TOLD = [
    *("A role has one access entry", "Give public IPv4 networks", "none of them with an ARM", "Give whole days"),
    *("do not begin with aws:", "A version of Aurora PostgreSQL looks like 17.5", "ACUs are whole or half numbers"),
    *("up to 15 readers", "kept for 1 to 35 days", "A window, in UTC"),
]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (WRONG, TOLD),
        ({"addon_versions": {"corednss": "v1.9.0-eksbuild.1"}}, ["The cluster has the add-ons aws-ebs-csi"]),
    ],
    ids=["values", "name of an add-on"],
)
def test_what_aws_would_refuse_half_way_is_told_before(
    wrong: dict[str, Any], told: list[str], tmp_path: Path, s3_endpoint: str
):
    folder = project_copy(tmp_path)
    (folder / "stand_in_override.tf").write_text(STAND_IN.format(url=s3_endpoint))
    (folder / "terraform.tfvars.json").write_text(json.dumps(VARIABLES | wrong))
    terraform(folder, "init", "-backend=false", f"-plugin-dir={PLUGINS}")

    said = " ".join(terraform(folder, "plan", "-input=false", "-no-color").stderr.replace("│", "").split())

    assert [text for text in told if text not in said] == []
