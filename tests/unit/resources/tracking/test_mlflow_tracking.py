"""Runs and registry on a real MLflow server: what others do there, what is lost on the way, and several at once."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.ml.errors import TrackingError, TrackingRefused
from mlops_assets.ml.inference.artifact import ModelSignature
from resources.lake.folder_store import FolderStore
from resources.lake.lake import Lake
from resources.tracking.mlflow_tracking import RegisteredVersion, Tracking
from tests.artifacts import write_artifact
from tests.fault_proxy import Fault, fault_proxy
from tests.support import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import MlflowClient


@pytest.fixture
def model() -> str:
    return f"weather_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache"))


@pytest.fixture
def tracking(mlflow_uri: str, lake: Lake) -> Tracking:
    return Tracking(uri=mlflow_uri, lake=lake)


@pytest.fixture
def client(tracking: Tracking) -> MlflowClient:
    return tracking.client


def dagster_run(run_id: str | None = None) -> Any:
    """The part of Dagster's context that is read."""
    return SimpleNamespace(run=SimpleNamespace(run_id=run_id or uuid.uuid4().hex, job_name="job"))


def register(tracking: Tracking, model: str, folder: Path, factor: float = 3.0) -> RegisteredVersion:
    """Register an artifact as the stage does."""
    artifact = folder / uuid.uuid4().hex
    write_artifact(artifact, factor=factor)
    digest = ModelSignature.read(artifact).sha256
    with tracking.run(model, dagster_run()) as run:
        run.files(artifact, "model")
        return tracking.register(model, run, "model", {"sha256": digest}, "")


def foreign_version(client: MlflowClient, model: str, *, run: bool = True, tags: dict[str, str] | None = None) -> str:
    """A version that somebody has registered by hand."""
    experiment = client.get_experiment_by_name(model)
    assert experiment is not None
    if not run:
        return str(client.create_model_version(model, "s3://theirs/model", tags=tags).version)
    found = client.create_run(experiment.experiment_id).info
    client.log_text(found.run_id, "pickle", "model/model.pkl")
    return str(client.create_model_version(model, f"{found.artifact_uri}/model", found.run_id, tags=tags).version)


def test_of_several_that_register_one_digest_one_does(tracking: Tracking, model: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        versions = list(pool.map(lambda _: register(tracking, model, tmp_path), range(3)))
    assert {version.version for version in versions} == {1}
    assert len(tracking.client.search_model_versions(f"name = '{model}'")) == 1
    assert register(tracking, model, tmp_path, factor=4.0).version == 2


@pytest.mark.parametrize("fault", ["lose the answer", "lose the request", "503"])
def test_a_version_whose_answer_was_lost_is_there_once(
    mlflow_uri: str, lake: Lake, model: str, tmp_path: Path, fault: Fault
) -> None:
    with fault_proxy(mlflow_uri) as proxy:
        tracking = Tracking(uri=proxy.url, lake=lake)
        proxy.spoil("POST", "model-versions/create", fault)
        made = register(tracking, model, tmp_path)
        assert tracking.by_alias(model, "champion") is None
        assert [version.version for version in tracking.client.search_model_versions(f"name = '{model}'")] == ["1"]
        assert tracking.version_of(model, made.sha256) == made


def test_the_ledger_has_the_moves_in_the_order_of_the_alias(tracking: Tracking, model: str, tmp_path: Path) -> None:
    versions = [register(tracking, model, tmp_path, factor) for factor in (1.0, 2.0, 3.0)]

    def move(version: RegisteredVersion) -> None:
        tracking.move_alias(version, "champion", "because", "me", {})

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(move, versions * 3))
    entries = tracking.lake.entries(f"{model}/ledger")
    champion = tracking.by_alias(model, "champion")
    assert champion is not None
    assert entries[-1]["version"] == champion.version
    befores = [None, *[entry["version"] for entry in entries[:-1]]]
    assert [entry["previous_version"] for entry in entries] == befores
    assert [entry["number"] for entry in entries] == list(range(1, len(entries) + 1))


@pytest.mark.parametrize(
    ("run", "tags"), [(False, None), (True, None), (True, {"sha256": "x"}), (False, {"sha256": "a" * 64})]
)
def test_an_alias_on_a_foreign_version_is_told(
    tracking: Tracking, client: MlflowClient, model: str, tmp_path: Path, run: bool, tags: dict[str, str] | None
) -> None:
    ours = register(tracking, model, tmp_path)
    version = foreign_version(client, model, run=run, tags=tags)
    client.set_registered_model_alias(model, "champion", version)
    told = rf"Version 2 of {model}, which has the alias champion in MLflow, was not registered here: .*; take the alias"
    with pytest.raises(TrackingRefused, match=told):
        tracking.by_alias(model, "champion")
    with pytest.raises(TrackingRefused, match=told):
        tracking.check(model)
    client.set_registered_model_alias(model, "champion", "1")
    assert tracking.by_alias(model, "champion") == ours


def test_a_version_whose_tag_lies_is_not_the_known_one(
    tracking: Tracking, client: MlflowClient, model: str, tmp_path: Path
) -> None:
    ours = register(tracking, model, tmp_path)
    foreign_version(client, model, tags={"sha256": ours.sha256})
    foreign_version(client, model, run=False, tags={"sha256": ours.sha256})
    assert tracking.version_of(model, ours.sha256) == ours
    other = register(tracking, model, tmp_path, factor=9.0)
    client.set_model_version_tag(model, str(other.version), "sha256", ours.sha256)
    assert tracking.version_of(model, ours.sha256) == ours


def test_a_version_without_the_artifact_is_told(
    tracking: Tracking, client: MlflowClient, model: str, tmp_path: Path
) -> None:
    register(tracking, model, tmp_path)
    version = foreign_version(client, model, tags={"sha256": "a" * 64})
    client.set_registered_model_alias(model, "champion", version)
    champion = tracking.by_alias(model, "champion")
    assert champion is not None
    with pytest.raises(
        TrackingRefused, match=rf"Version 2 of {model} in MLflow has no file model/model\.onnx in its run"
    ):
        tracking.download(champion, tmp_path)


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
                lambda: tracking.by_alias(model, "champion"),
                lambda: tracking.version_of(model, "a" * 64),
            ]
            for call in calls:
                for method in ("GET", "POST", "PUT"):
                    proxy.spoil(method, "", "lose the request")
                with pytest.raises(TrackingError, match="MLflow server at"):
                    call()
                proxy.rules.clear()
