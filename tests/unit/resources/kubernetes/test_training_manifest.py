"""The PyTorchJob of a training by several pods."""

from __future__ import annotations

from typing import Any

from mlops_assets.assets.pod_template import worker_pods
from resources.kubernetes.training_manifest import training_job
from tests.support import TORCH, spec

LABELS = {"dagster/run-id": "r1", "dagster/op": "m__trained_model", "app.kubernetes.io/component": "training_worker"}
ME: dict[str, Any] = {
    "metadata": {"name": "step-1", "uid": "u1"},
    "spec": {
        "priorityClassName": "mlops-training",
        "nodeSelector": {"karpenter.sh/capacity-type": "on-demand"},
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {}}]}},
        ],
        "containers": [
            {
                "image": "platform:1",
                "env": [{"name": "LAKE_URI", "value": "s3://b"}, {"name": "AWS_ROLE_ARN", "value": "trainer"}],
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "token", "mountPath": "/token"}],
            }
        ],
    },
}


def job(queue: str | None = None) -> dict[str, Any]:
    model = spec(train={**TORCH, "compute": {"workers": 3, "gpu": 1, "instance_family": "g5"}})
    return training_job("train", LABELS, ME, worker_pods(model), queue, {"PIPES": "p"})


def pods(made: dict[str, Any]) -> list[dict[str, Any]]:
    """The template of each replica, one after the other."""
    return [item["template"] for item in made["spec"]["pytorchReplicaSpecs"].values() for _ in range(item["replicas"])]


def test_it_has_a_pod_for_each_worker_and_goes_with_its_step() -> None:
    made = job()
    assert len(pods(made)) == 3
    [owner] = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Pod", "step-1")
    assert made["spec"]["runPolicy"]["backoffLimit"] == 0


def test_all_workers_are_in_one_zone_on_the_nodes_that_the_yaml_asks_for() -> None:
    for pod in pods(job()):
        affinity = pod["spec"]["affinity"]
        [term] = affinity["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["topologyKey"] == "topology.kubernetes.io/zone"
        assert term["labelSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items(), "of the first too"
        required = affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert {item["key"] for item in required[0]["matchExpressions"]} >= {
            "mlops.dev/pool",
            "karpenter.k8s.aws/instance-family",
        }


def test_workers_have_the_steps_settings_and_not_its_identity() -> None:
    for pod in pods(job()):
        [container] = pod["spec"]["containers"]
        assert {item["name"] for item in container["env"]} == {"LAKE_URI", "PIPES"}
        assert {item["name"] for item in container["volumeMounts"]} == {"tmp", "shared-memory"}
        assert {item["name"] for item in pod["spec"]["volumes"]} == {"tmp", "shared-memory"}
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["nodeSelector"] == {"karpenter.sh/capacity-type": "on-demand"}, "the last try is the step's"
        assert pod["spec"]["priorityClassName"] == "mlops-training"


def test_with_a_queue_kueue_says_when_it_starts() -> None:
    label = "kueue.x-k8s.io/queue-name"
    assert job("trainings")["metadata"]["labels"][label] == "trainings"
    assert label not in job()["metadata"]["labels"]
    assert all(label not in pod["metadata"]["labels"] for pod in pods(job("trainings"))), (
        "pods are not queued by themselves"
    )
