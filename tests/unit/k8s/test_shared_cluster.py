"""k8s/overlays/team-b in production's cluster: no name is shared, and each stays on its nodes and in its quota."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from mlops_assets.serving.declaration import ServedVersion
from resources.kubernetes.pod_executor import STEP_POD
from resources.kubernetes.priority import with_prefix
from resources.serving.kserve_manifest import inference_service
from tests.cluster.environment_copy import CLUSTER_WIDE
from tests.manifests import PROJECT, named, needs_kubectl, of_kind, rendered

pytestmark = needs_kubectl
TEAM, NEIGHBOUR = "team-b", "production"
OWN = "mlops.dev/environment"
SPOT_STEPS = ("components:\n", "components:\n  - ../../components/spot-steps\n")
POLICIES = ("ValidatingAdmissionPolicy", "MutatingAdmissionPolicy")
# Kinds that a namespace holds, as far as the overlays have them
NAMESPACED = {
    *(
        "ConfigMap",
        "Deployment",
        "ExternalSecret",
        "LimitRange",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "PodMonitor",
        "ServiceMonitor",
    ),
    *("PrometheusRule", "ResourceQuota", "Role", "RoleBinding", "SecretStore", "Service", "ServiceAccount"),
    "StatefulSet",
}


def cluster_wide(overlay: str) -> set[tuple[str, str]]:
    return {(item["kind"], item["metadata"]["name"]) for item in of_kind(rendered(overlay), *CLUSTER_WIDE)}


def names(overlay: str, kind: str) -> set[str]:
    return {item["metadata"]["name"] for item in of_kind(rendered(overlay), kind)}


def pools(overlay: str) -> list[dict[str, Any]]:
    """The templates of its NodePools, with those for spot steps."""
    return [pool["spec"]["template"] for pool in of_kind(rendered(overlay, SPOT_STEPS), "NodePool")]


@pytest.mark.parametrize("neighbour", ["staging", "production", "test"])
def test_no_name_is_shared_with_another_environment(neighbour: str) -> None:
    assert {item["kind"] for item in rendered(TEAM)} <= CLUSTER_WIDE | NAMESPACED
    assert cluster_wide(TEAM) & cluster_wide(neighbour) == set()


def test_every_object_of_a_namespace_is_in_the_teams_own() -> None:
    assert {item["metadata"]["namespace"] for item in of_kind(rendered(TEAM), *NAMESPACED)} == {"mlops-team-b"}
    subjects = [subject for item in of_kind(rendered(TEAM), "ClusterRoleBinding") for subject in item["subjects"]]
    assert {subject["namespace"] for subject in subjects} == {"mlops-team-b"}


def test_what_is_referred_to_by_name_is_there() -> None:
    for pool in pools(TEAM):
        assert pool["spec"]["nodeClassRef"]["name"] in names(TEAM, "EC2NodeClass")
    for kind in POLICIES:
        bound = {item["spec"]["policyName"] for item in of_kind(rendered(TEAM), f"{kind}Binding")}
        assert bound == names(TEAM, kind)
    for binding in of_kind(rendered(TEAM), "ClusterRoleBinding"):
        assert binding["roleRef"]["name"] in names(TEAM, "ClusterRole")
    for item in of_kind(rendered(TEAM), "Deployment", "StatefulSet"):
        assert item["spec"]["template"]["spec"]["priorityClassName"] in names(TEAM, "PriorityClass")


@pytest.mark.parametrize("overlay", [TEAM, NEIGHBOUR, "staging"])
def test_policies_of_admission_hold_in_their_own_namespace_alone(overlay: str) -> None:
    """Two environments may have two versions of the platform, whose policies would refuse each other's pods."""
    found = of_kind(rendered(overlay), *POLICIES)
    assert {item["kind"] for item in found} == {*POLICIES}
    for policy in found:
        selected = policy["spec"]["matchConstraints"]["namespaceSelector"]["matchLabels"]
        assert selected["kubernetes.io/metadata.name"] == f"mlops-{overlay}", policy["metadata"]["name"]


def test_programs_use_the_teams_priority_classes() -> None:
    prefix = named(rendered(TEAM), "ConfigMap", "mlops-environment")["data"]["MLOPS_PREFIX"]
    launcher = yaml.safe_load((PROJECT / "k8s/base/dagster/dagster.yaml").read_text())["run_launcher"]["config"]
    run, step = (with_prefix(config, prefix)["pod_spec_config"] for config in (launcher["run_k8s_config"], STEP_POD))
    version = ServedVersion.of(1, "0" * 64)
    served = inference_service("iris", "iris", version, "s3://b/p", "image", size=1, replicas=1, prefix=prefix)
    used = {run["priority_class_name"], step["priority_class_name"], served["spec"]["predictor"]["priorityClassName"]}
    assert used == names(TEAM, "PriorityClass")


def test_only_the_teams_pods_come_to_its_nodes_and_they_go_nowhere_else() -> None:
    assert len(pools(TEAM)) == 3
    for pool in pools(TEAM):
        assert pool["metadata"]["labels"][OWN] == "mlops-team-b"
        assert {"key": OWN, "value": "mlops-team-b", "effect": "NoSchedule"} in pool["spec"]["taints"]
    for pool in pools(NEIGHBOUR):
        assert OWN not in pool["metadata"]["labels"]
    own_nodes = named(rendered(TEAM), "MutatingAdmissionPolicy", "team-b-mlops-own-nodes")["spec"]
    [mutation] = own_nodes["mutations"]
    assert mutation["jsonPatch"]["expression"].count("value: request.namespace") == 2
    [rule] = own_nodes["matchConstraints"]["resourceRules"]
    assert (rule["resources"], rule["operations"]) == (["pods"], ["CREATE"])
    assert "mlops-own-nodes" not in names(NEIGHBOUR, "MutatingAdmissionPolicy")


@pytest.mark.parametrize("chart", ["nvidia-device-plugin", "dcgm-exporter"])
def test_what_runs_on_every_gpu_node_runs_on_the_teams(chart: str) -> None:
    tolerations = yaml.safe_load((PROJECT / "helm-values" / f"{chart}.yaml").read_text())["tolerations"]
    assert {"nvidia.com/gpu", OWN} <= {item["key"] for item in tolerations if item["operator"] == "Exists"}


def test_the_team_has_a_quota_of_its_own_which_its_pools_keep() -> None:
    quota = {overlay: named(rendered(overlay), "ResourceQuota", "mlops") for overlay in (TEAM, NEIGHBOUR)}
    hard = quota[TEAM]["spec"]["hard"]
    assert quota[TEAM]["metadata"]["namespace"] == "mlops-team-b"
    for key in ("pods", "requests.cpu", "requests.nvidia.com/gpu"):
        assert int(hard[key]) < int(quota[NEIGHBOUR]["spec"]["hard"][key])
    assert named(rendered(TEAM), "NodePool", "team-b-gpu")["spec"]["limits"]["nvidia.com/gpu"] == "2"
    assert hard["requests.nvidia.com/gpu"] == "2"


def test_nothing_of_the_team_is_production_but_the_cluster_it_is_in() -> None:
    folder = PROJECT / "k8s" / "overlays" / TEAM
    settings = yaml.safe_load((folder / "settings.yaml").read_text())["spec"]
    shared = {key for key, value in settings.items() if "production" in str(value) or "staging" in str(value)}
    assert shared == {"node_role", "cluster_name"}
