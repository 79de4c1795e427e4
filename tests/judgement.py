"""A model's life under everything that people and machines do to it, and what must hold whatever they do."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pandas as pd
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resources.lake.lake import Lake
from resources.serving.local_serving import LocalServing
from resources.tracking.mlflow_tracking import Tracking
from tests.support import Platform, attributes, spec

if TYPE_CHECKING:
    from mlops_assets.spec.model_spec import ModelSpec
    from resources.serving.golden_rows import Proof
    from resources.tracking.model_registry import RegisteredVersion

STAGES = ("raw_data", "prepared_data", "features", "trained_model", "evaluation", "registered_model", "deployment")
THRESHOLD = 0.8  # no model of coin flips reaches it on rows that it has not learned
ROWS = 300
FOREST = {"network": "sklearn.ensemble.RandomForestClassifier", "params": {"n_estimators": 10}}
CHANGES: list[tuple[str, Any]] = [
    ("prepare", {"split": {"by": "random", "seed": 1}}),
    ("prepare", {"split": {"by": "random", "seed": 2}}),
    ("prepare", {"split": {"by": "time"}}),
    ("train", {"network": "sklearn.linear_model.LogisticRegression"}),
    ("train", FOREST),
    ("target", {"column": "rain"}),
    ("target", {"column": "coin"}),
    ("gate", {"metric": "roc_auc", "at_least": THRESHOLD}),
    ("gate", {"metric": "roc_auc", "at_least": THRESHOLD, "beats_champion_by": -1.0}),
    ("gate", {"metric": "roc_auc", "at_least": 0.9999}),
    ("features", {"use": ["pressure", "humidity"]}),
    ("features", {"use": ["place", "pressure", "humidity"]}),
]


class Killed(RuntimeError):
    """The process ends here."""


class KilledLake(Lake):
    """Ends before the entry of a ledger is written: the alias has moved already."""

    def append(self, prefix: str, entry: Any) -> int:
        raise Killed


class KilledServing(LocalServing):
    """Ends once the endpoint has changed, before the alias moves."""

    def deploy(self, *version: Any) -> Proof:
        super().deploy(*version)
        raise Killed


class KilledTracking(Tracking):
    """Ends once a version is registered, before it has an alias."""

    def move_alias(self, version: RegisteredVersion, alias: str, *_: Any) -> None:
        raise Killed


class ModelLife(RuleBasedStateMachine):
    """Rules are what may happen to a model, invariants what may never come of it."""

    platform: Platform

    def __init__(self, platform: Platform) -> None:
        super().__init__()
        self.platform = platform
        self.platform.model = f"weather_{uuid.uuid4().hex[:8]}"  # another model on the same servers
        self.platform.__post_init__()
        self.changes: dict[str, Any] = {"target": {"column": "rain"}, "train": FOREST}
        self.changes["gate"] = {"metric": "roc_auc", "at_least": THRESHOLD, "beats_champion_by": -1.0}
        self.month = 0
        self.failed: list[tuple[str, ModelSpec]] = []
        self.asked = ""  # the configuration of the last run
        self.champion_until: datetime | None = None
        self.agreed = True  # whether the last deployment came to its end
        self.known = set[int]()

    # ---- what happens ----
    @initialize()
    def begins(self) -> None:
        for _ in range(3):
            self.new_data(flipped=False)
        self.execute()

    @rule(flipped=st.booleans())
    def new_data(self, flipped: bool) -> None:
        """Another month, in which the weather may have turned around."""
        self.month += 1
        generator = np.random.default_rng(self.month)
        pressure, humidity = generator.normal(1013, 9, ROWS), generator.uniform(20, 100, ROWS)
        wet = (1013 - pressure) / 9 + (humidity - 60) / 20 + generator.normal(0, 0.4, ROWS) > 0
        first = pd.Timestamp("2025-01-01") + pd.DateOffset(months=self.month - 1)
        rows = pd.DataFrame(
            {
                "time": first + pd.to_timedelta(np.sort(generator.integers(0, 28 * 86_400, ROWS)), "s"),
                "place": generator.choice(["Bern", "Genève"], ROWS),
                "pressure": pressure.clip(950, 1060).round(2),
                "humidity": humidity.round(2),
                "rain": wet ^ flipped,
                "coin": generator.random(ROWS) < 0.5,
            }
        )
        file = self.platform.home / "rows.csv"
        rows.to_csv(file, index=False)
        self.platform.lake.store.upload(file, f"sources/{self.platform.model}/{first:%Y-%m}.csv")

    @rule(change=st.sampled_from(CHANGES))
    def change_yaml(self, change: tuple[str, Any]) -> None:
        self.changes[change[0]] = change[1]

    @rule()
    def run_everything(self) -> None:
        self.execute()

    @rule(stages=st.sets(st.sampled_from(STAGES), min_size=1, max_size=4))
    def materialize_some(self, stages: set[str]) -> None:
        self.execute(sorted(stages, key=STAGES.index))

    @rule(first=st.sampled_from(STAGES))
    def materialize_from(self, first: str) -> None:
        self.execute(STAGES[STAGES.index(first) :])

    @rule()
    def deal_anew_and_judge_without_training(self) -> None:
        """What a person does who wants to see another split."""
        self.changes["prepare"] = {"split": {"by": "random", "seed": self.month + 10}}
        self.execute(["prepared_data", "evaluation", "registered_model"])

    @rule()
    def override_the_gate(self) -> None:
        self.execute(evaluation={"override": {"gate": "the test asks for it"}})

    @rule(back=st.integers(0, 2), asked=st.booleans())
    def backfill(self, back: int, asked: bool) -> None:
        month = f"2025-{max(1, self.month - back):02d}"
        config: dict[str, Any] = {"raw_data": {"last_partition": month}}
        if asked:
            config["deployment"] = {"override": {"newest_data": "the test asks for it"}}
        self.execute(**config)

    @rule(how=st.sampled_from(["serving", "lake", "tracking"]))
    def is_killed(self, how: str) -> None:
        self.execute(killed=how)

    @precondition(lambda self: self.failed)
    @rule(index=st.integers(0, 3))
    def execute_again_from_failure(self, index: int) -> None:
        run_id, model = self.failed[-1 - index % len(self.failed)]
        self.finished(self.platform.reexecute(run_id, model))

    @rule()
    def retire_the_champion(self) -> None:
        if self.platform.champion() is not None:
            self.platform.tracking.client.delete_registered_model_alias(self.platform.model, "champion")
            self.champion_until, self.agreed = None, False

    # ---- what must hold ----
    @invariant()
    def nothing_is_registered_that_was_not_judged_on_rows_it_has_not_learned(self) -> None:
        for version in self.new_versions():
            reached = float(version.tags["test_roc_auc"]) >= THRESHOLD
            assert "overridden.evaluation.gate" not in version.tags or "gate" in self.asked, "another run's override"
            assert reached or "overridden.evaluation.gate" in version.tags, version.tags
            assert version.tags["target"] != "coin" or not reached, f"a coin was foretold: {version.tags}"

    @invariant()
    def a_digest_is_one_version(self) -> None:
        digests = [version.tags["sha256"] for version in self.versions()]
        assert len(digests) == len(set(digests))

    @invariant()
    def the_champion_is_of_no_older_data_than_before_unless_asked(self) -> None:
        champion = self.platform.tracking.by_alias(self.platform.model, "champion")
        if champion is None:
            return
        until = datetime.fromisoformat(self.platform.tracking.tags_of(champion)["data_until"])
        before, self.champion_until = self.champion_until, until
        assert before is None or until >= before or "newest_data" in self.asked, f"{until} after {before}"

    @invariant()
    def ledger_alias_and_endpoint_agree(self) -> None:
        entries = self.platform.lake.entries(f"{self.platform.model}/ledger")
        assert [entry["number"] for entry in entries] == list(range(1, len(entries) + 1))
        if not self.agreed:
            return
        moves = [entry["version"] for entry in entries if entry["alias"] == "champion"]
        served = self.platform.serving.current(self.platform.model)
        champion = self.platform.champion()
        assert (moves[-1] if moves else None) == champion == (int(served.version) if served else None)

    # ---- how it is done ----
    def model(self) -> ModelSpec:
        columns = {**attributes()["columns"], "time": {"type": "timestamp"}, "coin": {"type": "boolean"}}
        source = {"uri": f"sources/{self.platform.model}/*.csv", "event_time": "time", "partition_by": "month"}
        return spec(
            model=self.platform.model,
            columns=columns,
            source=source | {"start": "2025-01", "window": 2},
            **self.changes,
        )

    def execute(self, stages: Any = STAGES, killed: str | None = None, **config: Any) -> None:
        model, platform = self.model(), self.platform
        config = {name: value for name, value in config.items() if name in stages}
        configured = {"ops": {f"{model.model}__{name}": {"config": value} for name, value in config.items()}}
        arguments: dict[str, Any] = {
            "asset_selection": [dg.AssetKey([model.model, name]) for name in stages],
            "run_config": configured | {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        }
        parts = {"lake": platform.lake, "tracking": platform.tracking, "serving": platform.serving}
        if killed == "lake":
            platform.lake = KilledLake(**platform.lake.model_dump(include={"uri", "cache", "endpoint_url"}))
            platform.tracking = Tracking(uri=platform.mlflow_uri, lake=platform.lake)
        elif killed == "serving":
            platform.serving = KilledServing(state=platform.serving.state, port=platform.serving.port)
        elif killed == "tracking":
            platform.tracking = KilledTracking(uri=platform.mlflow_uri, lake=platform.lake)
        try:
            result = platform.run(model, **arguments)
        finally:
            for name, part in parts.items():
                setattr(platform, name, part)
        if not result.success:
            self.failed.append((result.run_id, model))
        self.finished(result)

    def finished(self, result: Any) -> None:
        run = self.platform.instance.get_run_by_id(result.run_id)
        assert run is not None
        self.asked = str(run.run_config)
        node = f"{self.platform.model}__deployment"
        if any(event.step_key == node for event in result.all_events if event.is_step_start):
            self.agreed = any(event.step_key == node for event in result.all_events if event.is_step_success)
        for event in result.all_events:
            if event.is_step_failure:
                error = event.step_failure_data
                told = error.user_failure_data is not None or "Killed" in str(error.error)
                assert told or "AssetCheck" in str(error.error), f"{event.step_key}: {error.error}"

    def versions(self) -> list[Any]:
        return list(self.platform.tracking.client.search_model_versions(f"name = '{self.platform.model}'"))

    def new_versions(self) -> list[Any]:
        fresh = [version for version in self.versions() if int(version.version) not in self.known]
        self.known |= {int(version.version) for version in fresh}
        return fresh
