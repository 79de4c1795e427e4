"""Whatever starts a run, its pods are those the YAML asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster import graphql
from tests.cluster.dagster_api import REPOSITORY, DagsterApi
from tests.cluster.waiting import POD_START_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.platform import Platform

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
MODEL = "flight_delay"
PREPARED = f"{MODEL}/prepared_data"
STEP = f"dagster/op={MODEL}__prepared_data"


@pytest.fixture
def nothing_left_running(platform: Platform) -> Iterator[None]:
    """Terminate what a backfill or a sensor has started beyond the pod that is looked at."""
    yield
    unfinished = platform.unfinished_runs()
    if unfinished:
        platform.terminate_all(unfinished)
    platform.no_run_goes_on()


def requested(pod: dict[str, Any]) -> dict[str, Any]:
    """What a pod asks for, without what differs from pod to pod."""
    spec, metadata = pod["spec"], pod["metadata"]
    [container] = spec["containers"]
    names = (
        "affinity",
        "nodeSelector",
        "tolerations",
        "serviceAccountName",
        "terminationGracePeriodSeconds",
        "priorityClassName",
        "securityContext",
    )
    mounts = [mount for mount in container["volumeMounts"] if not mount["name"].startswith("kube-api-access")]
    return {
        "container": {"resources": container["resources"], "image": container["image"], "mounts": mounts},
        "pod": {name: spec.get(name) for name in names},
        "labels": {key: value for key, value in metadata["labels"].items() if key.startswith("mlops.dev/")},
        "annotations": metadata["annotations"],
    }


@pytest.mark.usefixtures("nothing_left_running")
def test_an_asset_started_four_ways_has_the_same_pod(platform: Platform) -> None:
    known = {pod["metadata"]["uid"] for pod in platform.pods(STEP)}

    def next_pod(way: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            return next((pod for pod in platform.pods(STEP) if pod["metadata"]["uid"] not in known), None)

        pod = wait_until(found, POD_START_S, f"a pod is started by {way}")
        known.add(pod["metadata"]["uid"])
        return requested(pod)

    platform.materialize(MODEL, "raw_data")
    ways: dict[str, dict[str, Any]] = {}
    for way, job in (("the UI", "__ASSET_JOB"), ("its job", MODEL)):
        run_id = platform.launch(PREPARED, job=job)
        ways[way] = next_pod(way)
        platform.run_succeeds(run_id)

    # The sensor starts what is missing
    platform.wipe(PREPARED)
    sensor = platform.start_sensor("default_automation_condition_sensor")
    try:
        ways["the sensor"] = next_pod("the sensor")
    finally:
        platform.stop_sensor(sensor)

    backfill = platform.launch_backfill(f"{MODEL}_by_month", "2013-06")
    ways["a backfill"] = next_pod("a backfill")
    platform.cancel_backfill(backfill)

    expected = ways["the UI"]
    assert expected["labels"]["mlops.dev/model"] == MODEL
    assert expected["container"]["resources"]["limits"]["memory"]
    for way, pod in ways.items():
        assert pod == expected, way


def test_the_webserver_for_everybody_shows_and_starts_nothing(platform: Platform) -> None:
    viewer = DagsterApi("dagster-webserver-read-only")
    try:
        assert viewer.query("{ version }") == platform.query("{ version }")
        selector = {**REPOSITORY, "pipelineName": MODEL}
        params = {"mode": "default", "selector": selector, "runConfigData": ""}
        refused = viewer.query(graphql.LAUNCH_RUN, params=params)["launchPipelineExecution"]
    finally:
        viewer.close()
    assert refused["__typename"] == "UnauthorizedError"
