"""k8s/base/karpenter and who runs there: nodes with runs are left alone, pools are known by a label, limits agree."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from mlops_assets.assets.pod_template import op_tags
from tests.manifests import PROJECT, named, needs_kubectl, of_kind, rendered
from tests.network_policies import selects
from tests.support import TORCH, spec

pytestmark = needs_kubectl

STAGES = ("raw_data", "prepared_data", "features", "trained_model", "evaluation", "registered_model", "deployment")
CLOUDS = ("staging", "production")
SPOT_STEPS = ("components:\n", "components:\n  - ../../components/spot-steps\n")
COMPUTE: list[dict[str, Any]] = [{}, {"spot": False}, {"gpu": 1}, {"gpu": 1, "spot": False}, {"gpu": 1, "workers": 2}]


def pools(overlay: str) -> dict[str, dict[str, Any]]:
    """Those of an overlay with spot nodes for steps, and the one that k8s/README.md shows."""
    _, _, example = (PROJECT / "k8s" / "README.md").read_text().partition("```yaml\n")
    shown = yaml.safe_load(example.partition("```")[0])
    found = [*of_kind(rendered(overlay, SPOT_STEPS), "NodePool"), shown]
    return {pool["metadata"]["name"]: pool["spec"] for pool in found}


def taken_by(pod: dict[str, Any], overlay: str) -> set[str]:
    """Pools whose nodes a step's pod may run on."""
    [term] = pod["affinity"]["node_affinity"]["required_during_scheduling_ignored_during_execution"][
        "node_selector_terms"
    ]
    wanted = {expression["key"]: set(expression["values"]) for expression in term["match_expressions"]}
    tolerated = {toleration["key"] for toleration in pod.get("tolerations", [])}
    found: set[str] = set()
    for name, pool in pools(overlay).items():
        labels = pool["template"]["metadata"]["labels"]
        taints = {taint["key"] for taint in pool["template"]["spec"].get("taints", [])}
        if labels["mlops.dev/pool"] in wanted["mlops.dev/pool"] and taints <= tolerated:
            found.add(name)
    return found


@pytest.mark.parametrize("overlay", CLOUDS)
@pytest.mark.parametrize("compute", COMPUTE)
def test_every_step_has_a_pool(overlay: str, compute: dict[str, Any]) -> None:
    model = spec(train={**TORCH, "compute": compute})
    for name in STAGES:
        pod = op_tags(model, name)["dagster-k8s/config"]["pod_spec_config"]
        on_gpus = name == "trained_model" and compute.get("gpu") and not compute.get("workers")
        expected = {"gpu", "gpu-reserved"} if on_gpus else {"cpu", "cpu-spot"} if pod.get("tolerations") else {"cpu"}
        assert taken_by(pod, overlay) == expected, name


@pytest.mark.parametrize("overlay", CLOUDS)
def test_no_node_is_given_up_while_a_run_is_on_it(overlay: str) -> None:
    """Run pods carry karpenter.sh/do-not-disrupt, which Karpenter keeps to but where a grace period ends it.

    With a terminationGracePeriod drift does not ask (disruption/types.go, EventualDisruptionClass), so a pool with one
    has no budget for drift.
    """
    for name, pool in pools(overlay).items():
        budgets = {reason: item for item in pool["disruption"]["budgets"] for reason in item["reasons"]}
        assert budgets.keys() == {"Empty", "Drifted", "Underutilized"}, name
        assert budgets["Empty"]["nodes"] == "100%", name
        bounded = "terminationGracePeriod" in pool["template"]["spec"]
        assert not bounded or budgets["Drifted"]["nodes"] == "0", name
    assert "terminationGracePeriod" not in pools(overlay)["cpu"]["template"]["spec"], "run pods live here"


@pytest.mark.parametrize("overlay", ["test", *CLOUDS])
def test_no_pod_is_evicted_to_make_room(overlay: str) -> None:
    classes = {item["metadata"]["name"]: item for item in of_kind(rendered(overlay), "PriorityClass")}
    assert {item["preemptionPolicy"] for item in classes.values()} == {"Never"}
    order = ("mlops-platform", "mlops-serving", "mlops-training")
    assert sorted(classes, key=lambda name: -classes[name]["value"]) == list(order)


@pytest.mark.parametrize("overlay", CLOUDS)
def test_amis_are_pinned_and_what_karpenter_makes_is_tagged(overlay: str) -> None:
    for node_class in of_kind(rendered(overlay), "EC2NodeClass"):
        [term] = node_class["spec"]["amiSelectorTerms"]
        assert term["alias"].startswith("al2023@v20")
        assert node_class["spec"]["tags"] == {"project": "mlops-assets", "environment": overlay}
        assert node_class["spec"]["instanceStorePolicy"] == "RAID0"


@pytest.mark.parametrize("overlay", ["test", *CLOUDS])
def test_the_quota_of_gpus_is_the_limit_of_their_pool(overlay: str) -> None:
    objects = rendered(overlay)
    limit = sum(
        int(pool["spec"]["limits"]["nvidia.com/gpu"])
        for pool in of_kind(objects, "NodePool")
        if pool["spec"]["template"]["metadata"]["labels"]["mlops.dev/pool"] == "gpu"
    )
    assert int(named(objects, "ResourceQuota", "mlops")["spec"]["hard"]["requests.nvidia.com/gpu"]) == limit


@pytest.mark.parametrize("overlay", ["test", *CLOUDS])
def test_what_steers_is_not_moved_for_a_cheaper_node(overlay: str) -> None:
    """One replica each: without the code location there is no UI, no sensor and no schedule."""
    objects = rendered(overlay)
    for name in ("dagster-daemon", "dagster-code"):
        metadata = named(objects, "Deployment", name)["spec"]["template"]["metadata"]
        assert metadata["annotations"]["karpenter.sh/do-not-disrupt"] == "true", name
    for deployment in of_kind(objects, "Deployment"):
        if deployment["spec"].get("replicas", 1) > 1:
            labels = deployment["spec"]["template"]["metadata"]["labels"]
            budgets = [item["spec"]["selector"] for item in of_kind(objects, "PodDisruptionBudget")]
            assert [budget for budget in budgets if selects(budget, labels)], deployment["metadata"]["name"]
