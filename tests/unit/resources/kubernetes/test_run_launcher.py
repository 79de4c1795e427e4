"""The run launcher in run monitoring's own loop: what it takes for dead, and what becomes of the run."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.test_utils import create_run_for_test, instance_for_test
from dagster._daemon.monitoring.run_monitoring import monitor_started_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kubernetes_api import ApiServer

JOBS, PODS = "/apis/batch/v1/namespaces/mlops/jobs", "/api/v1/namespaces/mlops/pods"
ACTIVE: dict[str, Any] = {"active": 1}
FAILED: dict[str, Any] = {"failed": 1, "conditions": [{"type": "Failed", "status": "True"}]}


@pytest.fixture
def instance(tmp_path: Path, api_server: ApiServer) -> Iterator[dg.DagsterInstance]:
    """A Dagster whose runs are Jobs of the API server, and are resumed twice."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        f"{{apiVersion: v1, kind: Config, current-context: c, users: [{{name: u, user: {{token: t}}}}],"
        f" clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{api_server.server_port}'}}}}],"
        " contexts: [{name: c, context: {cluster: c, user: u}}]}"
    )
    launcher = {
        "module": "resources.kubernetes.run_launcher",
        "class": "RunLauncher",
        "config": {
            "job_namespace": "mlops",
            "service_account_name": "dagster-run",
            "instance_config_map": "dagster-instance",
            "postgres_password_secret": "dagster-postgresql",
            "dagster_home": "/opt/dagster/home",
            "load_incluster_config": False,
            "kubeconfig_file": str(kubeconfig),
            "run_k8s_config": {"pod_spec_config": {"priority_class_name": "mlops-platform"}},
        },
    }
    monitoring = {"enabled": True, "max_resume_run_attempts": 2}
    with instance_for_test(overrides={"run_launcher": launcher, "run_monitoring": monitoring}) as made:
        yield made


@pytest.fixture
def run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """A run that has started."""
    code = ModuleCodePointer("mlops_assets.definitions", "defs")
    origin = RepositoryPythonOrigin(executable_path="python", code_pointer=code, container_image="mlops-platform:1")
    return create_run_for_test(
        instance, job_name="iris", status=dg.DagsterRunStatus.STARTED, job_code_origin=JobPythonOrigin("iris", origin)
    )


def put(api_server: ApiServer, run: dg.DagsterRun, of_job: dict[str, Any], attempt: str = "", **pod: Any) -> str:
    """A worker of the run: its Job, and its pod unless that has gone; the Job's name."""
    name = f"dagster-run-{run.run_id}{attempt}"
    labels = {"dagster/run-id": run.run_id, "app.kubernetes.io/component": "run_worker", "job-name": name}
    metadata = {"name": name, "labels": labels, "creationTimestamp": "2026-11-25T10:00:00Z"}
    api_server.objects[f"{JOBS}/{name}"] = {"metadata": metadata, "status": of_job}
    if pod:
        named = metadata | {"name": f"{name}-x1x1x"} | pod.pop("metadata", {})
        api_server.objects[f"{PODS}/{name}-x1x1x"] = {"metadata": named, "spec": {"containers": []}, **pod}
    return name


def look(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """One look of run monitoring; the run's status after it."""
    [record] = instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))
    monitor_started_run(instance, None, record, logging.getLogger())  # pyright: ignore[reportArgumentType]
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status.value


def workers(api_server: ApiServer) -> list[str]:
    """The endings of the names of all Jobs: the attempts."""
    return sorted(path[-2:] for path in api_server.objects if path.startswith(JOBS))


def test_a_run_goes_on_while_its_worker_cannot_be_seen(
    api_server: ApiServer, instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    put(api_server, run, ACTIVE, status={"phase": "Running"})
    before = dict(api_server.objects)
    for fault in (503, 429, "lost", 401, 403):
        api_server.faults = [fault] * 100
        assert look(instance, run) == "STARTED"
    api_server.faults = []
    api_server.shutdown()
    api_server.server_close()
    for _ in range(5):
        assert look(instance, run) == "STARTED"
    assert instance.count_resume_run_attempts(run.run_id) == 0
    assert api_server.objects == before


@pytest.mark.parametrize(
    ("status", "pod"),
    [
        (FAILED, {"status": {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}}),
        (FAILED, {}),
        (ACTIVE, {"status": {"phase": "Running"}, "metadata": {"deletionTimestamp": "2026-11-25T10:05:00Z"}}),
    ],
    ids=["its pod has failed", "its pod has gone", "its node is silent"],
)
def test_a_run_whose_worker_is_seen_to_be_dead_gets_one_other(
    api_server: ApiServer, instance: dg.DagsterInstance, run: dg.DagsterRun, status: dict[str, Any], pod: dict[str, Any]
) -> None:
    first = put(api_server, run, status, **pod)
    assert look(instance, run) == "STARTED"
    created = api_server.objects[f"{JOBS}/{first}-1"]
    assert created["spec"]["template"]["spec"]["containers"][0]["image"] == "mlops-platform:1"
    # A worker that hangs would go on beside the new one when its node is back
    assert (f"{JOBS}/{first}" in api_server.objects) == (status is FAILED)
    created["status"] = ACTIVE
    assert look(instance, run) == "STARTED"
    assert instance.count_resume_run_attempts(run.run_id) == 1


def test_a_pod_within_its_grace_period_is_alive(
    api_server: ApiServer, instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=20)).isoformat()
    put(api_server, run, ACTIVE, status={"phase": "Running"}, metadata={"deletionTimestamp": soon})
    assert look(instance, run) == "STARTED"
    assert instance.count_resume_run_attempts(run.run_id) == 0


def test_a_run_that_cannot_be_resumed_now_is_resumed_later(
    api_server: ApiServer,
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dagster_k8s.client.time.sleep", lambda _: None)
    first = put(api_server, run, FAILED, status={"phase": "Failed"})
    looks = 3  # at the Job, its pod, and the run's other Jobs
    api_server.faults = [*[None] * looks, *[503] * 100]
    assert look(instance, run) == "STARTED"
    assert workers(api_server) == [first[-2:]]
    api_server.faults = []
    assert look(instance, run) == "STARTED"
    assert f"{JOBS}/{first}-2" in api_server.objects


def test_a_job_whose_creation_lost_its_answer_is_there_once(
    api_server: ApiServer, instance: dg.DagsterInstance, run: dg.DagsterRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagster_k8s.client.time.sleep", lambda _: None)
    first = put(api_server, run, FAILED, status={"phase": "Failed"})
    api_server.faults = [*[None] * 3, "lost"]
    assert look(instance, run) == "STARTED"
    assert workers(api_server) == sorted([first[-2:], "-1"])


def test_a_run_that_dies_again_and_again_fails(
    api_server: ApiServer, instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    for attempt in ("", "-1", "-2"):
        put(api_server, run, FAILED, attempt, status={"phase": "Failed"})
        if attempt:
            assert instance.count_resume_run_attempts(run.run_id) == int(attempt[1:])
        status = look(instance, run)
    assert status == "FAILURE"


@pytest.fixture
def _of_a_team(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_PREFIX", "team-b-")


def test_a_worker_has_the_priority_class_of_its_environment(
    _of_a_team: None, api_server: ApiServer, instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    first = put(api_server, run, FAILED)
    assert look(instance, run) == "STARTED"
    pod = api_server.objects[f"{JOBS}/{first}-1"]["spec"]["template"]["spec"]
    assert pod["priorityClassName"] == "team-b-mlops-platform"


def test_a_worker_loads_the_models_of_its_run_alone(
    api_server: ApiServer, instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    instance.add_run_tags(run.run_id, {"mlops.dev/model": "iris"})
    first = put(api_server, run, FAILED, status={"phase": "Failed"})
    assert look(instance, run) == "STARTED"
    [container] = api_server.objects[f"{JOBS}/{first}-1"]["spec"]["template"]["spec"]["containers"]
    assert {"name": "MLOPS_MODELS", "value": "iris"} in container["env"]
