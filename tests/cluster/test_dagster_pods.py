"""The pods that Dagster makes of k8s/ and the assets: admission takes them, and they have what they need."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from tests.cluster.cluster import K8S
from tests.cluster.environment_copy import admit
from tests.cluster.platform import STAGES
from tests.cluster.waiting import SOON_S, wait_until
from tests.support import TORCH, spec

if TYPE_CHECKING:
    from tests.cluster.environment_copy import Copy

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def launcher() -> Any:
    """The run launcher of base/dagster/dagster.yaml, whose fields Dagster checks when it is made."""
    from dagster._core.instance.ref import InstanceRef

    values = {
        "DAGSTER_PG_USERNAME": "u",
        "DAGSTER_PG_PASSWORD": "p",
        "DAGSTER_PG_HOST": "h",
        "MLOPS_BUCKET": "b",
        "MLOPS_NAMESPACE": "n",
    }
    with patch.dict(os.environ, values), patch("kubernetes.config.load_incluster_config"):
        reference = InstanceRef.from_dir(str(K8S / "base" / "dagster"))
        assert reference.run_coordinator
        assert reference.compute_logs_data.config_yaml
        return reference.run_launcher


def dagster_job(component: str, *layers: dict[str, Any]) -> dict[str, Any]:
    """The specification of the Job that dagster-k8s makes of the launcher's configuration and what goes over it."""
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import UserDefinedDagsterK8sConfig, construct_dagster_k8s_job
    from kubernetes import client as untyped

    client: Any = untyped
    made_by = launcher()
    configuration: dict[str, Any] = {
        "env_config_maps": made_by.env_config_maps,
        "labels": dict(made_by.labels),
        "resources": made_by.resources,
        "volumes": made_by.volumes,
        "volume_mounts": made_by.volume_mounts,
        "security_context": made_by.security_context,
        "service_account_name": made_by.service_account_name,
        "run_k8s_config": UserDefinedDagsterK8sConfig.from_dict(made_by.run_k8s_config),
    }
    context = K8sContainerContext(**configuration)
    for layer in layers:
        context = context.merge(K8sContainerContext(run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(layer)))
    job = construct_dagster_k8s_job(
        context.get_k8s_job_config("mlops-platform", made_by),
        args=[],
        job_name="job",
        user_defined_k8s_config=context.run_k8s_config,
        component=component,
    )
    return client.ApiClient().sanitize_for_serialization(job)["spec"]


def dagster_pod(component: str, *layers: dict[str, Any]) -> dict[str, Any]:
    """The pod of such a Job."""
    return dagster_job(component, *layers)["template"]


def existing(pod: dict[str, Any], copy: Copy) -> dict[str, Any]:
    """The pod with the priority class of the copy."""
    name = copy.prefix + pod["spec"]["priorityClassName"] + copy.suffix
    return {**pod, "spec": {**pod["spec"], "priorityClassName": name}}


def test_admission_takes_run_pods_and_the_pods_of_all_stages(environment: Copy) -> None:
    from mlops_assets.assets.pod_template import op_tags
    from resources.kubernetes.pod_executor import STEP_POD

    model = spec(train={**TORCH, "compute": {"gpu": 1}})
    pods = {"run": dagster_pod("run_worker")}
    for stage in STAGES:
        pods[stage] = dagster_pod("step_worker", STEP_POD, op_tags(model, stage)["dagster-k8s/config"])
    for stage, pod in pods.items():
        answer = admit(environment.namespace, existing(pod, environment))
        assert answer.returncode == 0, f"{stage}: {answer.stderr}"
        assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"], stage
    assert pods["run"]["spec"]["serviceAccountName"] == "dagster-run"
    assert pods["features"]["spec"]["serviceAccountName"] == "dagster-step"
    assert pods["trained_model"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_a_steps_job_makes_one_pod_and_stays_longer_than_anybody_looks() -> None:
    from resources.kubernetes.pod_executor import STEP_POD

    job = dagster_job("step_worker", STEP_POD)
    assert job["backoffLimit"] == 0
    assert job["podFailurePolicy"]["rules"][0]["action"] == "FailJob"
    assert job["ttlSecondsAfterFinished"] >= 3600
    assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_the_training_operators_own_container_becomes_admissible(environment: Copy) -> None:
    pod = existing(
        dagster_pod("step_worker", {"pod_spec_config": {"service_account_name": "dagster-step"}}), environment
    )
    pod["metadata"]["labels"]["training.kubeflow.org/job-name"] = "job"
    pod["spec"]["initContainers"] = [{"name": "init-pytorch", "image": "docker.io/library/alpine:3.10"}]

    def admitted() -> str:
        answer = admit(environment.namespace, pod)
        return answer.stdout if answer.returncode == 0 else ""

    # The API server takes a moment to learn a new policy
    made = json.loads(wait_until(admitted, SOON_S, "a pod of the Training Operator is admitted"))
    assert made["spec"]["initContainers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
