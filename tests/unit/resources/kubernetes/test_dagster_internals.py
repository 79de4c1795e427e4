"""What the executor takes from Dagster's private modules: an upgrade that moves or changes it fails here."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from resources.kubernetes import dagster_internals
from resources.kubernetes.dagster_internals import (
    CheckStepHealthResult,
    K8sStepHandler,
    StepDelegatingExecutor,
    StepFailureData,
    StepRetryData,
    UserFailureData,
)

PROJECT = Path(__file__).parents[4]
SIGNATURES: list[tuple[Any, set[str]]] = [
    (StepDelegatingExecutor, {"retries", "check_step_health_interval_seconds", "max_concurrent", "should_verify_step"}),
    (StepDelegatingExecutor.execute, {"plan_context", "execution_plan"}),
    (
        StepDelegatingExecutor.log_failure_or_retry_event_after_error,  # pyright: ignore[reportAttributeAccessIssue]
        {"step_context", "err_info", "known_state"},
    ),
    (
        K8sStepHandler,
        {"image", "container_context", "load_incluster_config", "kubeconfig_file", "enable_owner_references"},
    ),
    (K8sStepHandler.launch_step, {"step_handler_context"}),
    (K8sStepHandler.check_step_health, {"step_handler_context"}),
    (K8sStepHandler._get_container_context, {"step_handler_context"}),  # pyright: ignore[reportPrivateUsage]
    (K8sStepHandler._get_k8s_step_job_name, {"step_handler_context"}),  # pyright: ignore[reportPrivateUsage]
    (K8sStepHandler._get_step_key, {"step_handler_context"}),  # pyright: ignore[reportPrivateUsage]
    (CheckStepHealthResult.unhealthy, {"reason"}),
    (dg.DagsterEvent.step_retry_event, {"step_context", "step_retry_data"}),
    (dg.DagsterEvent.step_failure_event, {"step_context", "step_failure_data"}),
    (dg.DagsterEvent.engine_event, {"plan_context", "message", "event_specific_data"}),
    (StepRetryData, {"error", "seconds_to_wait"}),
    (StepFailureData, {"error", "user_failure_data"}),
    (UserFailureData, {"label", "description", "metadata"}),
]


@pytest.mark.parametrize(("member", "parameters"), SIGNATURES, ids=lambda value: getattr(value, "__qualname__", ""))
def test_what_is_called_or_overridden_takes_the_same_arguments(member: Any, parameters: set[str]) -> None:
    assert parameters <= set(inspect.signature(member).parameters)


def test_dagster_still_asks_the_executor_what_becomes_of_a_failed_step() -> None:
    source = inspect.getsource(StepDelegatingExecutor)
    assert source.count("self.log_failure_or_retry_event_after_error(") >= 1


def test_every_name_is_there() -> None:
    assert all(hasattr(dagster_internals, name) for name in dagster_internals.__all__)


def test_no_other_module_imports_what_is_private_to_dagster() -> None:
    found = {
        str(path.relative_to(PROJECT))
        for room in ("mlops_assets", "resources")
        for path in (PROJECT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dagster._")
    }
    assert found == {"resources/kubernetes/dagster_internals.py"}
