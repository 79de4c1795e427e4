"""The pods of steps: what they ask for."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from mlops_assets.assets.pod_template import op_tags, worker_pods
from mlops_assets.components.model_pipeline import STAGES
from resources.kubernetes.labels import POD_POLICY
from tests.support import TORCH, spec

SPOT = {"key": "mlops.dev/spot", "operator": "Exists", "effect": "NoSchedule"}


def config(model: Any, stage: str) -> dict[str, Any]:
    return op_tags(model, stage)["dagster-k8s/config"]


def training_pod(**compute: Any) -> dict[str, Any]:
    return config(spec(train={**TORCH, "compute": compute}), "trained_model")


def terms(pod: dict[str, Any]) -> list[dict[str, Any]]:
    affinity = pod["pod_spec_config"]["affinity"]["node_affinity"]
    [term] = affinity["required_during_scheduling_ignored_during_execution"]["node_selector_terms"]
    return term["match_expressions"]


def test_a_gpu_training_asks_for_a_gpu_node_and_time_for_its_checkpoint() -> None:
    pod = training_pod(gpu=2, cpu=4, memory="16Gi", grace="3m", instance_family="g5")
    assert pod["container_config"]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert pod["container_config"]["resources"]["requests"]["cpu"] == "4000m"
    assert pod["pod_spec_config"]["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert {"key": "mlops.dev/pool", "operator": "In", "values": ["gpu"]} in terms(pod)
    assert {"key": "karpenter.k8s.aws/instance-family", "operator": "In", "values": ["g5"]} in terms(pod)
    assert pod["pod_spec_config"]["termination_grace_period_seconds"] == 180
    assert pod["pod_template_spec_metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "true"
    assert "node_selector" not in pod["pod_spec_config"]


def test_without_spot_only_nodes_that_stay_are_taken() -> None:
    no_spot = {"key": "karpenter.sh/capacity-type", "operator": "NotIn", "values": ["spot"]}
    assert no_spot in terms(training_pod(gpu=1, spot=False))
    assert no_spot not in terms(training_pod(gpu=1))


@pytest.mark.parametrize("stage", ["raw_data", "prepared_data", "features", "evaluation", "registered_model"])
def test_steps_that_can_be_repeated_may_go_to_a_spot_pool_of_cpu_nodes(stage: str) -> None:
    assert config(spec(), stage)["pod_spec_config"]["tolerations"] == [SPOT]


def test_a_cpu_training_goes_to_spot_nodes_unless_its_yaml_says_otherwise() -> None:
    assert training_pod()["pod_spec_config"]["tolerations"] == [SPOT]
    assert "tolerations" not in training_pod(spot=False)["pod_spec_config"]


def test_a_roll_out_and_who_watches_several_workers_stay_off_spot_nodes() -> None:
    assert "tolerations" not in config(spec(), "deployment")["pod_spec_config"]
    assert "tolerations" not in training_pod(workers=2, gpu=1)["pod_spec_config"]


@pytest.mark.parametrize("stage", ["raw_data", "prepared_data", "features", "evaluation", "registered_model"])
def test_other_stages_stay_off_gpu_nodes_and_have_no_rights(stage: str) -> None:
    pod = config(spec(train={**TORCH, "compute": {"gpu": 1}}, compute={"memory": "3Gi"}), stage)
    assert terms(pod) == [{"key": "mlops.dev/pool", "operator": "In", "values": ["cpu"]}]
    assert "nvidia.com/gpu" not in pod["container_config"]["resources"]["limits"]
    assert pod["container_config"]["resources"]["limits"]["memory"] == "3Gi"
    assert pod["pod_spec_config"]["service_account_name"] == "dagster-step"


def test_only_the_deployment_may_talk_to_kubernetes() -> None:
    assert config(spec(), "deployment")["pod_spec_config"]["service_account_name"] == "dagster-deployer"


def test_a_step_with_several_workers_only_watches_and_outlives_their_grace() -> None:
    model = spec(train={**TORCH, "compute": {"workers": 3, "gpu": 2, "grace": "3m", "retries": {"infrastructure": 7}}})
    step = config(model, "trained_model")
    assert "nvidia.com/gpu" not in step["container_config"]["resources"]["limits"]
    assert terms(step) == [{"key": "mlops.dev/pool", "operator": "In", "values": ["cpu"]}]
    assert step["pod_spec_config"]["service_account_name"] == "dagster-trainer"
    assert step["pod_spec_config"]["termination_grace_period_seconds"] > 180
    assert op_tags(model, "trained_model")[POD_POLICY]["retries"]["infrastructure"] == 7

    workers = worker_pods(model)
    assert (workers.count, workers.processes, workers.grace_s) == (3, 2, 180)
    assert workers.container["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert workers.pod["automount_service_account_token"] is False
    assert workers.needs == "a gpu node (2 GPUs)"


@pytest.mark.parametrize(
    ("train", "image"),
    [
        (TORCH, "trainer"),
        ({**TORCH, "compute": {"workers": 2}}, "trainer"),
        ({"network": "sklearn.linear_model.LogisticRegression"}, "platform"),
        ({"network": "sklearn.linear_model.LogisticRegression", "compute": {"gpu": 1}}, "trainer"),
    ],
)
def test_what_needs_torch_or_a_gpu_runs_in_the_trainers_image(train: dict[str, Any], image: str) -> None:
    model = spec(train=train)
    images = {
        stage(model).key.path[-1]: op_tags(model, stage(model).key.path[-1])[POD_POLICY]["image"] for stage in STAGES
    }
    assert images.pop("trained_model") == image
    assert set(images.values()) == {"platform"}


def test_the_config_stands_on_every_asset_where_all_ways_to_start_find_it() -> None:
    model = spec(train={**TORCH, "compute": {"gpu": 1, "start_within": "5m", "retries": {"infrastructure": 7}}})
    for stage in STAGES:
        asset = stage(model)
        tags = asset.op.tags
        name = asset.key.path[-1]
        assert json.loads(tags["dagster-k8s/config"]) == config(model, name)
        assert asset.op.pool == ("gpu" if name == "trained_model" else None)


@pytest.mark.parametrize("owner", ["a" * 61 + "@b.org", "a" * 62 + ".b@c.org", "team:---", "team:" + "a-" * 40])
def test_an_owner_is_a_label_that_kubernetes_takes(owner: str) -> None:
    label = config(spec(owners=[owner]), "features")["pod_template_spec_metadata"]["labels"]["mlops.dev/owner"]
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", label)
