"""All that is taken from Dagster's private modules, so that an upgrade that moves it is seen in one place.

The executor must replace how a failed step is recorded, which dagster-k8s has no public means for, and who only reads
Dagster's storage must leave the run launcher out. What it relies on is held by a test
(tests/unit/resources/kubernetes/test_dagster_internals.py).
"""

from typing import Any

from dagster._core.events import EngineEventData
from dagster._core.execution.plan.objects import StepFailureData, StepRetryData, UserFailureData
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepDelegatingExecutor, StepHandlerContext
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import ResumeRunContext, WorkerStatus
from dagster._core.launcher.base import CheckRunHealthResult
from dagster_k8s.client import (
    DagsterK8sAPIRetryLimitExceeded,
    DagsterK8sUnrecoverableAPIError,
    DagsterKubernetesClient,
)
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.executor import K8sStepHandler
from dagster_k8s.job import (
    USER_DEFINED_K8S_JOB_CONFIG_SCHEMA,
    UserDefinedDagsterK8sConfig,
    get_job_name_from_run_id,
)
from dagster_k8s.launcher import K8sRunLauncher
from dagster_shared.error import SerializableErrorInfo

__all__ = [
    "USER_DEFINED_K8S_JOB_CONFIG_SCHEMA",
    "CheckRunHealthResult",
    "CheckStepHealthResult",
    "DagsterK8sAPIRetryLimitExceeded",
    "DagsterK8sUnrecoverableAPIError",
    "DagsterKubernetesClient",
    "EngineEventData",
    "InstanceRef",
    "K8sContainerContext",
    "K8sRunLauncher",
    "K8sStepHandler",
    "ResumeRunContext",
    "RetryMode",
    "SerializableErrorInfo",
    "StepDelegatingExecutor",
    "StepFailureData",
    "StepHandlerContext",
    "StepRetryData",
    "UserDefinedDagsterK8sConfig",
    "UserFailureData",
    "WorkerStatus",
    "container_context",
    "get_job_name_from_run_id",
]


def container_context(config: dict[str, Any]) -> K8sContainerContext:
    """What `dagster-k8s/config` says, for dagster-k8s to merge with what it has from elsewhere."""
    return K8sContainerContext(run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(config))
