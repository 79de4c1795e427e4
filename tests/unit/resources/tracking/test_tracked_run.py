"""What is written into a run: once, whole, and told where it cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlops_assets.ml.errors import TrackingError
from resources.tracking.mlflow_tracking import Tracking
from resources.tracking.model_registry import RegisteredVersion
from resources.tracking.tracked_run import TrackedRun
from tests.fault_proxy import fault_proxy
from tests.support import dagster_run

if TYPE_CHECKING:
    from pathlib import Path

    from resources.lake.lake import Lake


def test_a_parameter_that_is_there_already_stays(tracking: Tracking, model: str) -> None:
    with tracking.run(model, dagster_run()) as run:
        run.params({"seed": 1})
        run.params({"seed": 2, "epochs": 3})
    assert tracking.client.get_run(run.run_id).data.params == {"seed": "1", "epochs": "3"}


def test_a_series_longer_than_a_batch_is_logged_whole_without_what_is_not_finite(
    tracking: Tracking, model: str
) -> None:
    with tracking.run(model, dagster_run()) as run:
        run.series([{"loss": float(step)} for step in range(1_100)] + [{"loss": float("nan")}], first_step=1)
    history = tracking.client.get_metric_history(run.run_id, "loss")
    assert sorted((point.step, point.value) for point in history) == [(step + 1, step) for step in range(1_100)]


def test_every_call_of_a_run_is_told_when_the_server_goes(
    mlflow_uri: str, lake: Lake, model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with fault_proxy(mlflow_uri) as proxy:
        tracking = Tracking(uri=f"{proxy.url}/", lake=lake)
        with tracking.run(model, dagster_run()) as run:
            assert "//#" not in run.url
            (tmp_path / "a.txt").write_text("a")
            calls = [
                lambda: run.params({"a": 1}),
                lambda: run.metrics({"a": 1.0}),
                lambda: run.tags({"a": "1"}),
                lambda: run.text("a", "a.txt"),
                lambda: run.files(tmp_path, "a"),
                lambda: run.file(tmp_path / "a.txt", "a"),
                lambda: tracking.by_alias(model, "champion"),
                lambda: tracking.version_of(model, "a" * 64),
            ]
            for call in calls:
                for method in ("GET", "POST", "PUT"):
                    proxy.spoil(method, "", "lose the request")
                with pytest.raises(TrackingError, match="MLflow server at"):
                    call()
                proxy.rules.clear()


def test_links_are_for_browsers_and_pictures_need_no_login(tracking: Tracking, model: str, tmp_path: Path) -> None:
    outside = Tracking(uri=tracking.address, ui_url="https://mlflow.example.com/", lake=tracking.lake)
    png = tmp_path / "roc.png"
    png.write_bytes(b"\x89PNG")
    with outside.run(model, dagster_run()) as run:
        assert run.url.startswith("https://mlflow.example.com/#/experiments/")
        assert run.picture(png, "evaluation") == "data:image/png;base64,iVBORw=="
    version = RegisteredVersion(model=model, version=3, sha256="0" * 64, run_id=run.run_id)
    assert outside.version_url(version) == f"https://mlflow.example.com/#/models/{model}/versions/3"
    # The embedded server asks nobody who is there, and a short address is shown at once
    here = TrackedRun(tracking.client, "r-1", "http://127.0.0.1:5005", "1")
    expected = "http://127.0.0.1:5005/get-artifact?path=evaluation/roc.png&run_uuid=r-1"
    assert here.picture(png, "evaluation") == expected
