"""The executor: what it reads of a step before it starts its pod, and what it does when others act too."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from kubernetes.client import ApiException

from mlops_assets.assets.pod_template import op_tags
from resources.kubernetes import pod_executor
from resources.kubernetes.dagster_internals import DagsterK8sUnrecoverableAPIError, K8sStepHandler, container_context
from resources.kubernetes.pod_executor import PodStepHandler, make_way_for_newer_worker, policy_of
from resources.kubernetes.pods import Pods
from tests.support import TORCH, spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kubernetes_api import ApiServer

JOBS, PODS = "/apis/batch/v1/namespaces/mlops/jobs", "/api/v1/namespaces/mlops/pods"
RUN = "2f02c25a-55e9-4f80-bbdb-acfb9e31359c"
CONTEXT: Any = SimpleNamespace(dagster_run=SimpleNamespace(run_id=RUN))
FAILED = {"conditions": [{"type": "Failed", "status": "True"}]}


class Ended(BaseException):
    """This process has ended."""


@pytest.fixture
def on_pod(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make this process that of a pod."""

    def end(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr(os, "_exit", end)

    def be(name: str) -> None:
        monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename=name))

    be(f"dagster-run-{RUN}-abcde")
    return be


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch, on_pod: object) -> PodStepHandler:
    """A handler of one step, `iris__features`, whose Job is `dagster-step-1`."""
    made = PodStepHandler.__new__(PodStepHandler)
    monkeypatch.setattr(PodStepHandler, "_get_step_key", lambda *_: "iris__features")
    monkeypatch.setattr(PodStepHandler, "_get_k8s_step_job_name", lambda *_: "dagster-step-1")
    monkeypatch.setattr(PodStepHandler, "_pods", lambda *_: Pods("mlops"))
    made.ends, made.details = {}, {}
    for name in ("_explained", "_last", "_refused"):
        setattr(made, name, {})
    return made


def put(api_server: ApiServer, name: str, status: dict[str, Any], component: str = "step_worker") -> None:
    """A Job of the run."""
    labels = {"dagster/run-id": RUN, "app.kubernetes.io/component": component}
    api_server.objects[f"{JOBS}/{name}"] = {"metadata": {"name": name, "labels": labels}, "status": status}


def test_the_policy_of_a_step_is_that_of_its_tags() -> None:
    model = spec(train={**TORCH, "compute": {"gpu": 1, "start_within": "5m", "retries": {"infrastructure": 7}}})
    tags = {name: json.dumps(value) for name, value in op_tags(model, "trained_model").items()}
    policy = policy_of(tags)
    assert (policy.start_within.total_seconds(), policy.retries.infrastructure, policy.retries.code) == (300, 7, 1)


@pytest.mark.parametrize(
    ("pod", "others", "ends"),
    [
        (f"dagster-run-{RUN}-abcde", [""], False),
        (f"dagster-run-{RUN}-12345", [""], False),
        (f"dagster-run-{RUN}-abcde", ["", "-1"], True),
        (f"dagster-run-{RUN}-1-abcde", ["", "-1"], False),
        (f"dagster-run-{RUN}-2-abcde", ["-2", "-10"], True),
        (f"dagster-run-{RUN}-10-abcde", ["-9", "-10"], False),
        ("a-laptop", ["", "-1"], False),
    ],
)
def test_the_newest_worker_of_a_run_goes_on_alone(
    api_server: ApiServer, on_pod: Callable[[str], None], pod: str, others: list[str], ends: bool
) -> None:
    on_pod(pod)
    for attempt in others:
        put(api_server, f"dagster-run-{RUN}{attempt}", {"active": 1}, "run_worker")
    try:
        make_way_for_newer_worker(Pods("mlops"), RUN)
    except Ended as ended:
        assert ends
        assert ended.args == (0,)
    else:
        assert not ends


def test_a_step_that_runs_already_is_not_started_again(
    api_server: ApiServer, handler: PodStepHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(api_server, "dagster-step-1", {"active": 1})
    monkeypatch.setattr(K8sStepHandler, "launch_step", lambda *_: pytest.fail("it was started"))
    assert not list(handler.launch_step(CONTEXT))
    assert set(api_server.requests) == {"GET"}


def test_what_is_left_of_a_step_that_died_makes_room(
    api_server: ApiServer, handler: PodStepHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(api_server, "dagster-step-1", FAILED)
    monkeypatch.setattr(K8sStepHandler, "launch_step", lambda *_: iter(["started"]))
    assert list(handler.launch_step(CONTEXT)) == ["started"]
    assert not api_server.objects


def test_a_job_that_is_refused_is_the_end_of_its_step_alone(
    api_server: ApiServer, handler: PodStepHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = ApiException(status=403, reason="Forbidden")
    refused.body = '{"message": "exceeded quota: jobs"}'

    def launch_step(*_: object) -> Any:
        try:
            raise refused
        except ApiException as error:
            raise DagsterK8sUnrecoverableAPIError(
                "no", k8s_api_exception=error, original_exc_info=(type(error), error, None)
            ) from error
        yield

    monkeypatch.setattr(K8sStepHandler, "launch_step", launch_step)
    assert not list(handler.launch_step(CONTEXT))
    health = handler.check_step_health(CONTEXT)
    assert not health.is_healthy
    assert "exceeded quota: jobs" in str(health.unhealthy_reason)
    assert "raise the ResourceQuota" in str(health.unhealthy_reason)


def test_a_worker_that_cannot_start_a_step_ends_and_leaves_the_others_alone(
    api_server: ApiServer, handler: PodStepHandler
) -> None:
    api_server.shutdown()
    api_server.server_close()
    with pytest.raises(Ended) as ended:
        list(handler.launch_step(CONTEXT))
    assert ended.value.args == (pod_executor.EXIT_AWAY,)


def test_a_pod_whose_node_is_silent_is_given_up(api_server: ApiServer, handler: PodStepHandler) -> None:
    put(api_server, "dagster-step-1", {"active": 1})
    metadata = {
        "name": "dagster-step-1-x1x1x",
        "labels": {"job-name": "dagster-step-1"},
        "creationTimestamp": "2026-11-25T10:00:00Z",
        "deletionTimestamp": "2026-11-25T10:05:00Z",
    }
    api_server.objects[f"{PODS}/dagster-step-1-x1x1x"] = {
        "metadata": metadata,
        "spec": {"nodeName": "gpu-1", "containers": []},
        "status": {"phase": "Running"},
    }
    health = handler.check_step_health(CONTEXT)
    assert not health.is_healthy
    assert "its node is not heard of any more" in str(health.unhealthy_reason)
    assert f"{PODS}/dagster-step-1-x1x1x" not in api_server.objects, "the API forgets it, so that its Job ends"


def container(handler: PodStepHandler, monkeypatch: pytest.MonkeyPatch, tags: dict[str, str]) -> Any:
    """The container of a step of iris with these tags, where Dagster gives it a variable."""
    from_dagster = container_context({"container_config": {"env": [{"name": "OTHER", "value": "1"}]}})
    monkeypatch.setattr(K8sStepHandler, "_get_container_context", lambda *_: from_dagster)
    run = dg.DagsterRun(job_name="__ASSET_JOB", run_id=RUN, asset_selection={dg.AssetKey(["iris", "features"])})
    with dg.instance_for_test() as instance:
        context: Any = SimpleNamespace(dagster_run=run, instance=instance, step_tags={"iris__features": tags})
        made = handler._get_container_context(context)  # pyright: ignore[reportPrivateUsage]
    return made.run_k8s_config.container_config


def test_a_step_loads_the_models_of_its_run_alone(handler: PodStepHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    env = container(handler, monkeypatch, {})["env"]
    assert env == [{"name": "OTHER", "value": "1"}, {"name": "MLOPS_MODELS", "value": "iris"}]


def test_a_step_that_needs_torch_has_the_trainers_image(
    handler: PodStepHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = {"MLOPS_TRAINER_IMAGE": "trainer:7", "MLOPS_PREDICTOR_IMAGE": "predictor:7"}
    addresses = {"LAKE_URI": "s3://any", "MLFLOW_TRACKING_URI": "http://any"}
    for name, value in ({"MLOPS_ENV": "production"} | images | addresses).items():
        monkeypatch.setenv(name, value)
    images = dict[str, str | None]()
    for stage in ("features", "trained_model"):
        tags = {name: json.dumps(value) for name, value in op_tags(spec(train=TORCH), stage).items()}
        images[stage] = container(handler, monkeypatch, tags).get("image")
    assert images == {"features": None, "trained_model": "trainer:7"}
