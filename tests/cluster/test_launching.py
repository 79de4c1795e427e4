"""Whatever starts a run, its pods are those the YAML asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.platform import LAUNCH, Platform, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
MODEL = "flight_delay"
RAW, PREPARED = f"{MODEL}/raw_data", f"{MODEL}/prepared_data"
STEP = f"dagster/op={MODEL}__prepared_data"
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "mlops-assets"}
SENSOR = REPOSITORY | {"sensorName": "default_automation_condition_sensor"}

BACKFILL = """
mutation B($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
CANCEL = "mutation C($id: String!) { cancelPartitionBackfill(backfillId: $id) { __typename } }"
START = "mutation S($s: SensorSelector!) { startSensor(sensorSelector: $s) { __typename ... on Sensor { id } } }"
STOP = "mutation S($id: String!) { stopSensor(id: $id) { __typename } }"
WIPE = "mutation W($r: [PartitionsByAssetSelector!]!) { wipeAssets(assetPartitionRanges: $r) { __typename } }"
UNFINISHED = """
{ runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED]}) { ... on Runs { results { runId } } } }
"""
TERMINATE = (
    "mutation T($ids: [String!]!) { terminateRuns(runIds: $ids, terminatePolicy: SAFE_TERMINATE) { __typename } }"
)


@pytest.fixture
def nothing_left_running(platform: Platform) -> Iterator[None]:
    """Terminate what a backfill or a sensor has started beyond the pod that is looked at."""
    yield
    ids = unfinished(platform)
    if ids:
        platform.query(TERMINATE, ids=ids)
    until("all runs have ended", lambda: not unfinished(platform), 180)


def unfinished(platform: Platform) -> list[str]:
    return [run["runId"] for run in platform.query(UNFINISHED)["runsOrError"]["results"]]


def asked(pod: dict[str, Any]) -> dict[str, Any]:
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

        pod = until(f"a pod started by {way}", found, 240)
        known.add(pod["metadata"]["uid"])
        return asked(pod)

    raw = platform.finished(platform.launch(RAW))
    assert raw.status == "SUCCESS", raw.text
    ways: dict[str, dict[str, Any]] = {}
    for way, job in (("the UI", "__ASSET_JOB"), ("its job", MODEL)):
        run_id = platform.launch(PREPARED, job=job)
        ways[way] = next_pod(way)
        assert platform.finished(run_id).status == "SUCCESS"

    # The sensor starts what is missing
    platform.query(WIPE, r=[{"assetKey": {"path": PREPARED.split("/")}}])
    sensor = platform.query(START, s=SENSOR)["startSensor"]
    assert sensor["__typename"] == "Sensor", sensor
    try:
        ways["the sensor"] = next_pod("the sensor")
    finally:
        platform.query(STOP, id=sensor["id"])

    job_set = {"partitionSetName": f"{MODEL}_by_month_partition_set", "repositorySelector": REPOSITORY}
    params = {"selector": job_set, "partitionNames": ["2013-06"]}
    backfill = platform.query(BACKFILL, params=params)["launchPartitionBackfill"]
    assert backfill["__typename"] == "LaunchBackfillSuccess", backfill
    ways["a backfill"] = next_pod("a backfill")
    platform.query(CANCEL, id=backfill["backfillId"])

    expected = ways["the UI"]
    assert expected["labels"]["mlops.dev/model"] == MODEL
    assert expected["container"]["resources"]["limits"]["memory"]
    for way, pod in ways.items():
        assert pod == expected, way


def test_the_webserver_for_everybody_shows_and_starts_nothing(platform: Platform) -> None:
    viewer = Platform(service_port=81)
    try:
        assert viewer.query("{ version }") == platform.query("{ version }")
        selector = {**REPOSITORY, "pipelineName": MODEL}
        params = {"mode": "default", "selector": selector, "runConfigData": ""}
        refused = viewer.query(LAUNCH, params=params)["launchPipelineExecution"]
    finally:
        viewer.close()
    assert refused["__typename"] == "UnauthorizedError"
