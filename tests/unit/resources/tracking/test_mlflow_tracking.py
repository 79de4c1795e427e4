"""Runs on a real MLflow server: what others do there, what is lost on the way, and several at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from mlops_assets.ml.errors import TrackingError, TrackingRefused
from resources.lake.folder_store import FolderStore
from resources.tracking.mlflow_tracking import Tracking
from resources.tracking.model_registry import RegisteredVersion
from tests.fault_proxy import fault_proxy
from tests.support import dagster_run, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import MlflowClient

    from resources.lake.lake import Lake


def test_a_deleted_experiment_is_told_with_how_to_restore_it(
    tracking: Tracking, client: MlflowClient, model: str
) -> None:
    tracking.check(model)
    experiment = client.get_experiment_by_name(model)
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    told = (
        rf"The experiment {model} .* was deleted in MLflow .*mlflow experiments restore -x {experiment.experiment_id}"
    )
    for begin in (tracking.check, tracking.warm_up):
        with pytest.raises(TrackingRefused, match=told):
            begin(model)
    client.restore_experiment(experiment.experiment_id)
    tracking.check(model)


def test_a_run_that_was_deleted_while_its_dagster_run_goes_on_is_used_again(
    tracking: Tracking, client: MlflowClient, model: str
) -> None:
    context = dagster_run()
    with tracking.run(model, context) as run:
        run.tags({"first": "step"})
    client.delete_run(run.run_id)
    with tracking.run(model, context) as again:
        again.tags({"second": "step"})
    assert again.run_id == run.run_id
    assert {"first", "second"} <= client.get_run(run.run_id).data.tags.keys()


@pytest.mark.parametrize("claimed", [b"0" * 32, b"\xff", b""])
def test_a_claim_of_no_run_is_told(tracking: Tracking, model: str, claimed: bytes) -> None:
    context = dagster_run()
    tracking.lake.store.create(f"{model}/mlflow_runs/{context.run.run_id}", claimed)
    with pytest.raises(TrackingRefused, match=rf"The claim {model}/mlflow_runs/.* names an MLflow run that does not"):
        tracking.run(model, context).__enter__()


def test_steps_at_once_share_one_run_and_the_others_are_deleted(tracking: Tracking, model: str) -> None:
    context = dagster_run()

    def step(_: int) -> str:
        with tracking.run(model, context) as run:
            return run.run_id

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(step, range(4)))) == 1
    experiment = tracking.client.get_experiment_by_name(model)
    assert experiment is not None
    assert len(tracking.client.search_runs([experiment.experiment_id])) == 1


def test_a_claim_whose_answer_was_lost_keeps_its_run(tracking: Tracking, model: str) -> None:
    class LostAnswer(FolderStore):
        """As a store that does not know its own object again."""

        def create(self, key: str, content: bytes) -> bool:
            super().create(key, content)
            return False

    tracking.lake.store  # noqa: B018  it is made once, and then replaced
    tracking.lake.__dict__["store"] = LostAnswer(FolderStore.open(tracking.lake.uri, None, None).root)
    with tracking.run(model, dagster_run()) as run:
        run.tags({"a": "step"})
    assert tracking.client.get_run(run.run_id).info.lifecycle_stage == "active"


def test_a_refused_login_is_told_before_any_work(mlflow_uri: str, lake: Lake, model: str) -> None:
    with fault_proxy(mlflow_uri) as proxy:
        proxy.spoil("GET", "/api/", "401", times=9)
        with pytest.raises(TrackingRefused, match=r"refuses the login \(401\); set MLFLOW_TRACKING_USERNAME"):
            Tracking(uri=proxy.url, lake=lake).warm_up(model)


def test_a_server_that_cannot_be_reached_is_told_before_any_work(
    lake: Lake, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match=r"cannot be reached, .*; start it, or correct MLFLOW_TRACKING_URI"):
        Tracking(uri=f"http://127.0.0.1:{free_port()}", lake=lake).warm_up(model)


def test_what_fails_in_a_run_is_told_and_not_that_mlflow_is_away_too(
    mlflow_uri: str, lake: Lake, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with fault_proxy(mlflow_uri) as proxy, pytest.raises(ValueError, match="the stage's own"):
        tracking = Tracking(uri=proxy.url, lake=lake)
        with tracking.run(model, dagster_run()):
            proxy.spoil("POST", "runs/update", "503", times=9)
            raise ValueError("the stage's own")


def test_what_is_written_into_the_run_of_a_version_leaves_it_ended_as_it_was(
    tracking: Tracking, client: MlflowClient, model: str, tmp_path: Path
) -> None:
    with tracking.run(model, dagster_run()) as run:
        pass
    version = RegisteredVersion(model=model, version=1, sha256="s", run_id=run.run_id)
    (tmp_path / "drift.png").write_bytes(b"png")
    again = tracking.run_of(version)
    again.metrics({"drift_score": 0.5}, step=20261117)
    again.file(tmp_path / "drift.png", "drift")
    assert again.url == run.url
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert [item.path for item in client.list_artifacts(run.run_id, "drift")] == ["drift/drift.png"]
