"""The whole life cycle through Dagster, against a real MLflow server and a real model server."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import boto3
import numpy as np
import pandas as pd
import pytest

from mlops_assets.ml.monitoring.reference_profile import ReferenceProfile
from resources.lake import digests
from resources.lake.digests import sha256
from resources.tracking.model_registry import digest_tag
from tests.fault_proxy import Fault, fault_proxy
from tests.support import TORCH, Platform, check_results, failure, messages, weather

if TYPE_CHECKING:
    from pathlib import Path


def test_from_source_objects_to_a_served_prediction(platform: Platform) -> None:
    platform.put(weather())
    result = platform.run(platform.spec(train=TORCH))
    assert result.success, messages(result)
    assert platform.served() == "1"
    assert platform.champion() == 1
    evaluation = result.asset_value([platform.model, "evaluation"])
    assert evaluation.metrics["accuracy"] > 0.7
    wet, dry = platform.ask(
        [{"place": "Bern", "pressure": 985, "humidity": 99}, {"place": "Bern", "pressure": 1040, "humidity": 22}]
    )["predictions"]
    assert (wet["label"], dry["label"]) == (1, 0)
    assert wet["probabilities"][1] > 0.7 > dry["probabilities"][1]


def test_the_life_cycle_on_a_lake_in_s3(tmp_path: Path, mlflow_uri: str, s3_endpoint: str) -> None:
    client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1")
    client.create_bucket(Bucket="life-cycle")
    platform = Platform(tmp_path, mlflow_uri, lake_uri="s3://life-cycle/lake", endpoint_url=s3_endpoint)
    try:
        platform.put(weather())
        result = platform.run(platform.spec(train=TORCH))
        assert result.success, messages(result)
        assert platform.served() == "1"
        shutil.rmtree(platform.lake.cache)
        assert platform.run(platform.spec(train=TORCH)).success
        assert platform.champion() == 1
    finally:
        platform.serving.stop()


@pytest.mark.long
def test_the_life_cycle_on_a_lake_whose_network_loses_answers(
    tmp_path: Path, mlflow_uri: str, s3_endpoint: str
) -> None:
    client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1")
    client.create_bucket(Bucket="bad-network")
    with fault_proxy(s3_endpoint) as proxy:
        platform = Platform(tmp_path, mlflow_uri, lake_uri="s3://bad-network/lake", endpoint_url=proxy.url)
        faults: tuple[Fault, ...] = ("lose the answer", "409", "503", "lose the request")
        try:
            platform.put(weather())
            for fault in faults:
                for place in (r"manifest\.json", "mlflow_runs", "/ledger/", "/lock/", "handles"):
                    proxy.spoil("PUT", place, fault)
            for place in (r"\.csv", r"\.json", r"\.parquet", r"\.npy", "list-type=2"):
                proxy.spoil("GET", place, "break the body", times=2)
            result = platform.run(platform.spec(train=TORCH))
            assert result.success, messages(result)
            shutil.rmtree(platform.lake.cache)
            assert platform.run(platform.spec(train=TORCH)).success
        finally:
            platform.serving.stop()
        entries = platform.lake.entries(f"{platform.model}/ledger")
        stored = platform.lake.store.sizes(f"{platform.model}/**/*.json")
    assert [(entry["number"], entry["alias"], entry["version"]) for entry in entries] == [
        (1, "challenger", 1),
        (2, "champion", 1),
    ]
    assert len([key for key in stored if key.endswith("manifest.json")]) == 4
    assert [run.info.status for run in platform.mlflow_runs()] == ["FINISHED", "FINISHED"]


def test_an_unknown_category_and_a_missing_value_are_answered(platform: Platform) -> None:
    platform.put(weather())
    assert platform.run().success
    answers = platform.ask(
        [{"place": "never seen", "pressure": 1000}, {"place": "Bern", "pressure": 1000, "humidity": None}]
    )
    assert all(np.isfinite(answer["probabilities"]).all() for answer in answers["predictions"])


def test_one_finished_mlflow_run_per_dagster_run(platform: Platform) -> None:
    platform.put(weather())
    result = platform.run(platform.spec(train=TORCH))
    [run] = platform.mlflow_runs()
    assert run.info.status == "FINISHED"
    assert run.data.tags["dagster_run_id"] == result.run_id
    assert run.data.params["network"] == TORCH["network"]
    assert run.data.metrics["test_accuracy"] == pytest.approx(
        result.asset_value([platform.model, "evaluation"]).metrics["accuracy"]
    )
    losses = platform.tracking.client.get_metric_history(run.info.run_id, "validation_loss")
    assert [point.step for point in losses] == [1, 2, 3]
    artifacts = {item.path for item in platform.tracking.client.list_artifacts(run.info.run_id, "evaluation")}
    wanted = ("roc", "precision_recall", "calibration", "confusion_matrix", "learning_curve", "permutation_importance")
    assert {f"evaluation/{name}.png" for name in wanted} | {"evaluation/model_card.md"} <= artifacts


def test_a_version_has_its_reference_profile_also_when_it_was_registered_before_there_were_any(
    platform: Platform, tmp_path: Path
) -> None:
    platform.put(weather())
    assert platform.run().success
    version = platform.tracking.numbered(platform.model, 1)
    assert version is not None
    tag = digest_tag(ReferenceProfile.FILE)
    platform.tracking.client.delete_model_version_tag(platform.model, "1", tag)
    assert platform.tracking.file_of(version, ReferenceProfile.FILE, tmp_path) is None
    assert platform.run().success
    file = platform.tracking.file_of(version, ReferenceProfile.FILE, tmp_path)
    assert file is not None
    assert set(ReferenceProfile.read(file.parent).features) == {"place", "pressure", "humidity"}


def test_the_mlflow_run_of_a_failed_run_is_finished_too(platform: Platform) -> None:
    platform.put(weather())
    assert not platform.run(platform.spec(gate={"metric": "accuracy", "at_least": 1.0})).success
    assert [run.info.status for run in platform.mlflow_runs()] == ["FINISHED"]


def test_a_version_carries_its_lineage(platform: Platform) -> None:
    platform.put(weather())
    result = platform.run()
    version = platform.tracking.client.get_model_version(platform.model, "1")
    model = result.asset_value([platform.model, "trained_model"])
    assert version.tags["sha256"] == model.sha256
    assert version.tags["dagster_run_id"] == result.run_id
    assert version.tags["raw_data_version"] == result.asset_value([platform.model, "raw_data"]).version
    assert version.tags["features_version"] == result.asset_value([platform.model, "features"]).version
    assert version.tags["git_commit"]


def test_mlflow_pyfunc_gives_what_the_endpoint_gives(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow.pyfunc

    platform.put(weather())
    assert platform.run().success
    # Not by set_tracking_uri, which writes it into the environment of all that comes after
    monkeypatch.setenv("MLFLOW_TRACKING_URI", platform.mlflow_uri)
    model = mlflow.pyfunc.load_model(f"models:/{platform.model}@champion")
    rows = pd.DataFrame({"place": ["Bern", "Zürich"], "pressure": [990.0, 1030.0], "humidity": [95.0, 30.0]})
    dtypes = {"place": object, "pressure": np.float32, "humidity": np.float32}
    columns = {name: rows[name].to_numpy(dtype).reshape(-1, 1) for name, dtype in dtypes.items()}
    theirs = model.predict(columns)["probabilities"]
    ours = [answer["probabilities"] for answer in platform.ask(rows.to_dict("records"))["predictions"]]
    np.testing.assert_allclose(theirs, ours, atol=1e-6)


def test_an_unchanged_stage_is_not_computed_again(platform: Platform) -> None:
    platform.put(weather())
    first = platform.run(platform.spec(train=TORCH))
    second = platform.run(platform.spec(train=TORCH))
    assert second.success
    for stage in ("prepared_data", "features", "trained_model"):
        assert first.asset_value([platform.model, stage]) == second.asset_value([platform.model, stage])
    # Compared with the champion, which there is now, and with nothing else changed
    evaluations = [run.asset_value([platform.model, "evaluation"]) for run in (first, second)]
    assert len({(found.version, found.sha256) for found in evaluations}) == 1
    [made] = second.asset_materializations_for_node(f"{platform.model}__trained_model")
    assert "skipped" in str(made.metadata["trained"].value)
    assert platform.champion() == 1
    assert len(platform.tracking.client.search_model_versions(f"name = '{platform.model}'")) == 1


def test_a_run_that_skips_everything_reads_each_file_of_the_lake_once(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.put(weather())
    assert platform.run().success
    time.sleep(digests.SETTLED_S)
    read: list[Path] = []
    monkeypatch.setattr(digests, "_OF_THIS_PROCESS", {})  # as in a new process
    monkeypatch.setattr(digests, "sha256", lambda path: (read.append(path), sha256(path))[1])
    assert platform.run().success
    names = sorted(path.name for path in read)
    assert {"a.csv", "train.parquet", "x_train.npy", "model.onnx"} <= set(names)
    assert len(read) == len(set(read)), names


def test_only_what_depends_on_a_change_is_computed_again(platform: Platform) -> None:
    platform.put(weather())
    first = platform.run(platform.spec(train=TORCH))
    second = platform.run(platform.spec(train={**TORCH, "epochs": 4}))
    versions = [
        {
            stage: result.asset_value([platform.model, stage]).version
            for stage in ("prepared_data", "features", "trained_model")
        }
        for result in (first, second)
    ]
    assert versions[0]["features"] == versions[1]["features"]
    assert versions[0]["trained_model"] != versions[1]["trained_model"]


def test_a_damaged_snapshot_is_made_again(platform: Platform) -> None:
    platform.put(weather())
    first = platform.run()
    handle = first.asset_value([platform.model, "trained_model"])
    file = platform.lake.fetch(handle.prefix, handle.version) / "model.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    second = platform.run()
    assert second.success
    assert second.asset_value([platform.model, "trained_model"]).sha256 == handle.sha256


def test_a_failed_gate_says_by_how_much_and_changes_nothing(platform: Platform) -> None:
    platform.put(weather())
    assert platform.run().success
    platform.put(weather(seed=1), "b.csv")
    result = platform.run(platform.spec(gate={"metric": "accuracy", "at_least": 0.999}))
    assert not result.success
    gate = check_results(result)["gate"]
    assert not gate.passed
    assert "missed by 0." in gate.description
    assert platform.champion() == 1
    assert platform.served() == "1"
    assert len(platform.tracking.client.search_model_versions(f"name = '{platform.model}'")) == 1


def test_a_better_model_becomes_champion_and_a_worse_one_stays_challenger(platform: Platform) -> None:
    platform.put(weather(2_000))
    gate = {"metric": "roc_auc", "at_least": 0.3}
    strong = {"network": "sklearn.linear_model.LogisticRegression"}
    weak = {"network": "sklearn.naive_bayes.BernoulliNB"}
    assert platform.run(platform.spec(train=weak, gate=gate)).success
    assert platform.run(platform.spec(train=strong, gate=gate)).success
    assert (platform.champion(), platform.served()) == (2, "2")
    third = platform.run(platform.spec(train={**weak, "params": {"alpha": 2.0}}, gate=gate))
    assert third.success
    assert (platform.champion(), platform.served()) == (2, "2")
    challenger = platform.tracking.by_alias(platform.model, "challenger")
    assert challenger is not None
    assert challenger.version == 3
    assert "does not beat" in third.asset_value([platform.model, "evaluation"]).comparison.reason


@pytest.mark.long
def test_a_champion_that_reads_other_columns_cannot_be_compared_and_gives_way(platform: Platform) -> None:
    platform.put(weather())
    assert platform.run().success
    columns = platform.spec().model_dump(by_alias=True)["columns"]
    del columns["humidity"]
    platform.put(weather().drop(columns="humidity"))
    changed = platform.spec(
        columns=columns, features={"use": ["place", "pressure"]}, gate={"metric": "roc_auc", "at_least": 0.5}
    )
    result = platform.run(changed)
    assert result.success, messages(result)
    verdict = result.asset_value([platform.model, "evaluation"]).comparison.reason
    why = "it reads humidity, which the data lacks now"
    assert verdict == f"champion version 1 cannot be compared: {why}; the gate alone decides"
    assert (platform.champion(), platform.ask([{"place": "Bern", "pressure": 990}])["model_version"]) == (2, "2")


@pytest.mark.long
def test_the_ledger_keeps_the_history_of_every_alias(platform: Platform) -> None:
    platform.put(weather(2_000))
    gate = {"metric": "roc_auc", "at_least": 0.3}
    platform.run(platform.spec(train={"network": "sklearn.naive_bayes.BernoulliNB"}, gate=gate))
    platform.run(platform.spec(gate=gate))
    entries = platform.lake.entries(f"{platform.model}/ledger")
    moves = [(entry["alias"], entry["previous_version"], entry["version"]) for entry in entries]
    assert moves == [("challenger", None, 1), ("champion", None, 1), ("challenger", 1, 2), ("champion", 1, 2)]
    assert [entry["number"] for entry in entries] == [1, 2, 3, 4]
    assert all(entry["reason"] and entry["actor"] and entry["sha256"] for entry in entries)


@pytest.mark.parametrize("network", ["sklearn.ensemble.RandomForestRegressor", "mlops_assets.ml.networks.MLP"])
def test_regression(platform: Platform, network: str) -> None:
    generator = np.random.default_rng(0)
    size = generator.uniform(20, 200, 600)
    kind = generator.choice(["flat", "house"], 600)
    price = 1000 * size + np.where(kind == "house", 50_000, 0) + generator.normal(0, 2_000, 600)
    platform.put(pd.DataFrame({"size": size, "kind": kind, "price": price}))
    train = {
        "network": network,
        **({} if network.startswith("sklearn") else {k: v for k, v in TORCH.items() if k != "network"}),
    }
    if "MLP" in network:
        train |= {"epochs": 60, "schedule": "cosine"}
    model = platform.spec(
        task="regression",
        target={"column": "price"},
        columns={"size": {"type": "number"}, "kind": {"type": "category"}, "price": {"type": "number"}},
        features={"use": ["size", "kind"]},
        train=train,
        gate={"metric": "r2", "at_least": 0.9},
    )
    result = platform.run(model)
    assert result.success, messages(result)
    [prediction] = platform.ask([{"size": 100, "kind": "flat"}])["predictions"]
    assert prediction == pytest.approx(100_000, rel=0.1)


def test_a_backfill_uses_the_data_up_to_its_partition(platform: Platform) -> None:
    rows = weather(900)
    rows["time"] = pd.date_range("2025-01-01", "2025-03-31 23:00", periods=900)
    platform.put(rows)
    model = platform.spec(
        source={"uri": "weather/*.csv", "event_time": "time", "partition_by": "month", "start": "2025-01", "window": 1},
        columns={**platform.spec().model_dump(by_alias=True)["columns"], "time": {"type": "timestamp"}},
    )
    sizes = {}
    for month in ("2025-01", "2025-02"):
        result = platform.run(model, job=f"{platform.model}_by_month", partition_key=month)
        assert result.success
        prepared = result.asset_value([platform.model, "prepared_data"])
        sizes[month] = prepared.train_rows + prepared.test_rows
    whole = platform.run(platform.spec(source={"uri": "weather/*.csv"}))
    prepared = whole.asset_value([platform.model, "prepared_data"])
    assert sizes == {"2025-01": (rows.time.dt.month == 1).sum(), "2025-02": (rows.time.dt.month == 2).sum()}
    assert prepared.train_rows + prepared.test_rows == 900


def test_a_partition_that_is_none_is_told(platform: Platform) -> None:
    platform.put(weather())
    configured = {"ops": {f"{platform.model}__raw_data": {"config": {"last_partition": "2013-13"}}}}
    assert "set source.partition_by" in failure(platform.run(run_config=configured))
