"""k8s/components/kueue: the queue that MLOPS_QUEUE names, in an environment of its own or beside another one."""

from __future__ import annotations

from typing import Any

import pytest

from mlops_assets.assets.pod_template import worker_pods
from tests.manifests import named, needs_kubectl, of_kind, rendered
from tests.support import TORCH, spec

pytestmark = needs_kubectl
WITH_QUEUE = ("  - ../../components/eks\n", "  - ../../components/kueue\n  - ../../components/eks\n")
ENVIRONMENTS = ("staging", "production", "team-b")


def objects(overlay: str) -> list[dict[str, Any]]:
    return rendered(overlay, WITH_QUEUE)


@pytest.mark.parametrize("overlay", ENVIRONMENTS)
def test_programs_name_a_queue_that_is_there(overlay: str) -> None:
    found = objects(overlay)
    [local] = of_kind(found, "LocalQueue")
    assert named(found, "ConfigMap", "mlops-environment")["data"]["MLOPS_QUEUE"] == local["metadata"]["name"]
    assert local["metadata"]["namespace"] == f"mlops-{overlay}"
    [whole] = of_kind(found, "ClusterQueue")
    assert local["spec"]["clusterQueue"] == whole["metadata"]["name"]
    [flavor] = of_kind(found, "ResourceFlavor")
    [group] = whole["spec"]["resourceGroups"]
    assert [item["name"] for item in group["flavors"]] == [flavor["metadata"]["name"]]
    assert whole["spec"]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": f"mlops-{overlay}"}


@pytest.mark.parametrize("overlay", ENVIRONMENTS)
def test_the_quota_of_gpus_is_the_namespaces_and_covers_all_that_workers_ask_for(overlay: str) -> None:
    found = objects(overlay)
    [group] = of_kind(found, "ClusterQueue")[0]["spec"]["resourceGroups"]
    quota = {item["name"]: item["nominalQuota"] for item in group["flavors"][0]["resources"]}
    assert quota["nvidia.com/gpu"] == named(found, "ResourceQuota", "mlops")["spec"]["hard"]["requests.nvidia.com/gpu"]
    workers = worker_pods(spec(train={**TORCH, "compute": {"workers": 2, "gpu": 1}}))
    asked = {name for kind in workers.container["resources"].values() for name in kind}
    assert asked <= set(group["coveredResources"]) == set(quota)


def test_two_environments_have_queues_of_their_own() -> None:
    names = [
        item["metadata"]["name"] for overlay in ENVIRONMENTS[1:] for item in of_kind(objects(overlay), "ClusterQueue")
    ]
    assert names == ["mlops", "team-b-mlops"]


@pytest.mark.parametrize("overlay", ENVIRONMENTS)
def test_a_training_may_read_why_it_waits(overlay: str) -> None:
    found = objects(overlay)
    [rule] = named(found, "Role", "dagster-trainer-queue")["rules"]
    assert (rule["apiGroups"], rule["resources"], rule["verbs"]) == (["kueue.x-k8s.io"], ["workloads"], ["list"])
    [subject] = named(found, "RoleBinding", "dagster-trainer-queue")["subjects"]
    assert subject == {"kind": "ServiceAccount", "name": "dagster-trainer", "namespace": f"mlops-{overlay}"}
