"""Judgement that cannot be fooled: partial runs, re-executions, backfills, kills and runs that come between."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from mlops_assets.ml.errors import DeploymentError, TrackingError
from resources.serving.local_serving import LocalServing
from resources.tracking.mlflow_tracking import Tracking
from tests.judgement import FOREST, ModelLife
from tests.support import Platform, check_results, failure, messages, weather

if TYPE_CHECKING:
    import dagster as dg

    from mlops_assets.spec.model_spec import ModelSpec
    from resources.serving.golden_rows import Proof

SHORT = settings(
    max_examples=4,
    stateful_step_count=10,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # an example takes seconds, and the steps are in the message
)


AUC = {"metric": "roc_auc", "at_least": 0.8}
LOGISTIC = {"network": "sklearn.linear_model.LogisticRegression"}
WEAK = {"network": "sklearn.naive_bayes.BernoulliNB"}


class Unreachable(LocalServing):
    """A model server that is not there when a version comes."""

    def deploy(self, *_: Any) -> Proof:
        raise DeploymentError("nobody answers")


def handle(result: dg.ExecuteInProcessResult, platform: Platform, stage: str) -> Any:
    """The handle of a stage in a run."""
    return result.asset_value([platform.model, stage])


def champion_entry(platform: Platform) -> Any:
    """The last entry of the ledger about the champion."""
    return [entry for entry in platform.lake.entries(f"{platform.model}/ledger") if entry["alias"] == "champion"][-1]


# ---- inputs that belong together ----
def test_a_model_of_coin_flips_is_not_judged_on_rows_that_it_was_trained_on(platform: Platform) -> None:
    rows = weather(2_000)
    rows["rain"] = np.random.default_rng(3).random(len(rows)) < 0.5
    platform.put(rows)
    one, two = (platform.spec(train=FOREST, gate=AUC, prepare__split={"seed": seed}) for seed in (1, 2))
    assert not check_results(platform.run(one))["gate"].passed
    result = platform.materialize("prepared_data", "evaluation", "registered_model", model=two)
    told = failure(result)
    assert "trained_model comes from prepared_data" in told
    assert f"materialize {platform.model}/features, {platform.model}/trained_model too, or the whole group" in told
    assert platform.champion() is None


def test_a_model_that_missed_the_gate_is_not_registered_by_the_next_run(platform: Platform) -> None:
    platform.put(weather())
    platform.run(platform.spec(gate={"metric": "roc_auc", "at_least": 0.9999}))
    told = failure(platform.materialize("registered_model", "deployment"))
    assert "The check gate of evaluation failed: roc_auc of class True is 0." in told
    assert f"{platform.model}__evaluation: {{config: {{override: {{gate: REASON}}}}}}" in told


# ---- windows ----
def by_month(platform: Platform, **changed: Any) -> ModelSpec:
    """Of three months, in the last of which the weather has turned around."""
    rows = weather(1_800)
    rows["time"] = pd.date_range("2025-01-01", "2025-03-31 23:00", periods=len(rows))
    rows["rain"] ^= rows.time.dt.month == 3
    platform.put(rows)
    columns = {**platform.spec().model_dump(by_alias=True)["columns"], "time": {"type": "timestamp"}}
    source = {"uri": "weather/*.csv", "event_time": "time", "partition_by": "month", "start": "2025-01", "window": 1}
    return platform.spec(**{"columns": columns, "source": source, "gate": AUC} | changed)


def test_a_backfill_of_an_old_month_is_judged_and_registered_and_leaves_the_champion(platform: Platform) -> None:
    model = by_month(platform)
    assert platform.run(model).success
    old = platform.run(model, job=f"{model.model}_by_month", partition_key="2025-02")
    assert old.success, messages(old)
    assert handle(old, platform, "registered_model").version == 2
    assert (platform.champion(), platform.served()) == (1, "1")
    challenger = platform.tracking.by_alias(platform.model, "challenger")
    assert challenger is not None
    assert challenger.version == 1
    newest = check_results(old)["newest_data"]
    assert not newest.passed
    assert newest.description == ("version 2: its data ends 2025-03-01 00:00, and the champion's 2025-03-31 23:00")


@pytest.mark.long
def test_an_old_month_takes_over_when_the_run_asks_for_it_and_the_ledger_keeps_why(platform: Platform) -> None:
    model = by_month(platform)
    assert platform.run(model).success
    why = {"newest_data": "March was recorded upside down", "beats_champion": "and so was its test part"}
    stages = ("raw_data", "prepared_data", "features", "trained_model", "evaluation", "registered_model", "deployment")
    asked = platform.materialize(
        *stages, model=model, raw_data={"last_partition": "2025-02"}, deployment={"override": why}
    )
    assert asked.success, messages(asked)
    assert (platform.champion(), platform.served()) == (2, "2")
    entry = champion_entry(platform)
    assert entry["evidence"]["overridden"] == {"deployment.newest_data": "March was recorded upside down"}
    assert "newest_data is overridden: March was recorded upside down" in entry["reason"]


def test_a_month_that_is_executed_again_from_failure_is_that_month(platform: Platform) -> None:
    class Away(Tracking):
        """An MLflow server that cannot be reached when the training begins."""

        def warm_up(self, model: str) -> None:
            pass

        def check(self, model: str) -> None:
            raise TrackingError(f"MLflow is away from {model}")

    model, tracking = by_month(platform), platform.tracking
    platform.tracking = Away(uri=platform.mlflow_uri, lake=platform.lake)
    job = f"{model.model}_by_month"
    february = platform.run(model, job=job, partition_key="2025-02")
    assert "MLflow is away" in failure(february)
    platform.tracking = tracking
    march = platform.run(model, job=job, partition_key="2025-03")
    assert march.success
    again = platform.reexecute(february.run_id, model)
    assert again.success
    features = handle(february, platform, "features")
    made = again.asset_materializations_for_node(f"{model.model}__trained_model")[0].metadata
    assert str(made["trained"].value) == "now"
    version = platform.tracking.client.get_model_version(platform.model, "2")
    assert version.tags["features_version"] == features.version
    assert version.tags["data_until"] == "2025-03-01T00:00:00+00:00"
    assert (platform.champion(), platform.served()) == (1, "1")


# ---- overrides ----
def test_the_gate_is_overridden_for_one_run_and_the_reason_is_kept(platform: Platform) -> None:
    platform.put(weather())
    strict = platform.spec(gate={"metric": "roc_auc", "at_least": 0.9999})
    why = {"override": {"gate": "a launch without better data"}}
    configured = {"ops": {f"{platform.model}__evaluation": {"config": why}}}
    result = platform.run(strict, run_config=configured)
    assert result.success, messages(result)
    gate = check_results(result)["gate"]
    assert not gate.passed
    assert gate.description.endswith("Overridden in this run: a launch without better data")
    assert handle(result, platform, "evaluation").lineage.overridden == {"evaluation.gate": why["override"]["gate"]}
    assert champion_entry(platform)["evidence"]["overridden"] == {"evaluation.gate": why["override"]["gate"]}
    tags = platform.tracking.client.get_model_version(platform.model, "1").tags
    assert tags["overridden.evaluation.gate"] == why["override"]["gate"]
    assert not platform.run(strict).success, "the next run has no override"


def test_a_retry_of_a_run_keeps_its_override(platform: Platform) -> None:
    platform.put(weather())
    strict = platform.spec(gate={"metric": "roc_auc", "at_least": 0.9999})
    configured = {"ops": {f"{platform.model}__evaluation": {"config": {"override": {"gate": "a launch"}}}}}
    serving = platform.serving
    platform.serving = Unreachable(state=serving.state, port=serving.port)
    failed = platform.run(strict, run_config=configured)
    assert not failed.success
    platform.serving = serving
    assert platform.reexecute(failed.run_id, strict).success
    assert champion_entry(platform)["evidence"]["overridden"] == {"evaluation.gate": "a launch"}


# ---- the champion ----
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"d": "d"}, id="a class is added"),
        pytest.param({"b": "z"}, id="a class is renamed", marks=pytest.mark.long),
    ],
)
def test_a_champion_is_compared_by_the_names_of_its_classes(platform: Platform, changes: dict[str, str]) -> None:
    generator = np.random.default_rng(0)
    kinds = np.array(["a", "b", "c", "d"])
    kind = kinds[generator.integers(0, 4, 1_200)]
    rows = pd.DataFrame({"kind": kind, "x": (kind == "c") + 2.0 * (kind == "b") + 3.0 * (kind == "d")})
    rows["x"] += generator.normal(0, 0.2, len(rows))
    before, after = rows[rows.kind != "d"], rows.assign(kind=rows.kind.replace(changes))
    if "d" not in changes:
        after = after[after.kind != "d"]
    columns = {"x": {"type": "number"}, "kind": {"type": "category"}}
    model = platform.spec(
        task="multiclass_classification",
        target={"column": "kind"},
        columns=columns,
        features={"use": ["x"]},
        train={"network": "sklearn.linear_model.LogisticRegression"},
        gate={"metric": "accuracy", "at_least": 0.6},
    )
    platform.put(before)
    assert platform.run(model).success
    platform.put(after)
    result = platform.run(model)
    assert result.success, messages(result)
    comparison = handle(result, platform, "evaluation").comparison
    # It knows three of four classes, or two of three: what it says about them is right
    known = 1 - (after.kind == next(iter(changes.values()))).mean()
    assert comparison.champion_metrics["accuracy"] == pytest.approx(known, abs=0.07)
    assert comparison.reason.startswith("beats champion version 1: accuracy ")


@pytest.mark.long
def test_a_champion_that_reads_a_column_as_another_type_is_not_compared(platform: Platform) -> None:
    generator = np.random.default_rng(0)
    rows = pd.DataFrame({"code": generator.integers(0, 4, 800), "pressure": generator.normal(1000, 5, 800)})
    rows["rain"] = rows.code > 1
    platform.put(rows)
    numbers = {"code": {"type": "number"}, "pressure": {"type": "number"}, "rain": {"type": "boolean"}}
    parts = {"features": {"use": ["code", "pressure"]}, "train": FOREST}
    exempt = {"no_leakage": "the test wants a sure thing"}
    configured = {"ops": {f"{platform.model}__features": {"config": {"override": exempt}}}}
    first = platform.run(platform.spec(columns=numbers, **parts), run_config=configured)
    assert first.success, messages(first)
    assert champion_entry(platform)["evidence"]["overridden"]["features.no_leakage"] == exempt["no_leakage"]
    categories = numbers | {"code": {"type": "category"}}
    second = platform.run(platform.spec(columns=categories, **parts), run_config=configured)
    assert second.success, messages(second)
    reason = handle(second, platform, "evaluation").comparison.reason
    assert "cannot be compared: it reads code as a number, which is a category now" in reason


def test_a_champion_is_not_compared_on_rows_that_it_was_trained_on(platform: Platform) -> None:
    platform.put(weather(2_000))
    one, two = (platform.spec(gate=AUC, prepare__split={"seed": seed}) for seed in (1, 2))
    assert platform.run(one).success
    result = platform.run(two)
    assert result.success, messages(result)
    reason = handle(result, platform, "evaluation").comparison.reason
    assert "it was trained on some of these rows: prepare.split has changed since; the gate alone decides" in reason
    platform.put(weather(500, seed=9), "b.csv")
    grown = platform.run(two)
    assert "on the same rows" in handle(grown, platform, "evaluation").comparison.reason


# ---- two runs at once ----
@pytest.mark.long
def test_a_deployment_compares_again_when_another_run_has_moved_the_champion(platform: Platform) -> None:
    platform.put(weather(2_000))
    weak, strong = (platform.spec(train=train, gate=AUC | {"at_least": 0.3}) for train in (WEAK, LOGISTIC))
    serving = platform.serving
    platform.serving = Unreachable(state=serving.state, port=serving.port)
    overtaken = platform.run(weak)  # judged when there was no champion
    platform.serving = serving
    assert platform.run(strong).success
    assert platform.champion() == 2
    result = platform.reexecute(overtaken.run_id, weak)
    assert result.success
    assert (platform.champion(), platform.served()) == (2, "2")
    [made] = result.asset_materializations_for_node(f"{platform.model}__deployment")
    assert "does not beat champion version 2" in str(made.metadata["decision"].value)


def test_two_runs_at_once_make_one_version_and_one_move(platform: Platform) -> None:
    platform.put(weather())
    other = Platform(platform.home, platform.mlflow_uri, serving_port=platform.serving_port)
    other.model = platform.model
    with ThreadPoolExecutor() as threads:
        results = list(threads.map(lambda each: each.run(), (platform, other)))
    assert [messages(result) for result in results] == ["", ""]
    assert len(platform.tracking.client.search_model_versions(f"name = '{platform.model}'")) == 1
    moves = [(entry["alias"], entry["version"]) for entry in platform.lake.entries(f"{platform.model}/ledger")]
    assert sorted(moves) == [("challenger", 1), ("champion", 1)]


# ---- everything ----
@pytest.mark.long
def test_whatever_happens_to_a_model_its_judgement_holds(platform: Platform) -> None:
    run_state_machine_as_test(lambda: ModelLife(platform), settings=SHORT)
