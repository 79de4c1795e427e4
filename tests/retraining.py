"""What the tests of retraining share: champions in MLflow, drift reports in the lake, and runs that end as wanted."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_assets.assets.handles import DriftSummary
from mlops_assets.components.retrain_watch import Looked, RetrainWatch
from mlops_assets.ml.automation.retrain_policy import RetrainFacts
from mlops_assets.spec.model_spec import ModelSpec
from resources.kubernetes.labels import MODEL
from resources.lake.lake import Lake
from resources.lake.retrain_ledger import RetrainEntry, RetrainLedger
from resources.tracking.mlflow_tracking import Tracking
from tests.support import spec

NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def report(lake: Lake, model: str, day: date, score: float | None, version: int = 1, **changed: Any) -> None:
    """Put the summary of a drift report into the lake, as `drift_report` does."""
    made: dict[str, Any] = {
        "prefix": "p",
        "version": "v",
        "day": day,
        "computed_at": NOON,
        "status": "not enough data" if score is None else "measured",
        "reason": "",
        "model_version": str(version),
        "rows": 1000,
        "labelled": 1000,
        "score": score,
        "threshold": 0.3,
        "drifted": {},
        "values": {},
        "metrics": {},
    }
    key = f"{lake.name_of(model)}/drift_report/{day}/latest.json"
    lake.store.replace(key, DriftSummary(**made | changed).model_dump_json().encode())


def entry(
    model: str = "weather", key: str = "drift/2026-11-17", decided_at: datetime = NOON, **data: Any
) -> RetrainEntry:
    """An entry of the ledger."""
    known: dict[str, Any] = {
        "trained_at": NOON - 10 * DAY,
        "trained_on": "d",
        "data": "d",
        "trained_by": "c",
        "code": "c",
    }
    return RetrainEntry(
        model=model,
        key=key,
        cause="drift",
        window=date(2026, 11, 17),
        reason="2 of the last 3 windows have drifted",
        facts=RetrainFacts(**known | data),
        decided_at=decided_at,
    )


def job(model: str, *, gate: bool = True, better: bool = True, breaks: bool = False) -> dg.JobDefinition:
    """The end of a model's job, whose checks pass or not, or whose last stage breaks."""

    @dg.asset(
        key=[model, "evaluation"], check_specs=[dg.AssetCheckSpec("gate", asset=[model, "evaluation"], blocking=True)]
    )
    def evaluation() -> dg.MaterializeResult:
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(check_name="gate", passed=gate)])

    names = ("beats_champion", "newest_data")

    @dg.asset(
        key=[model, "deployment"],
        deps=[evaluation],
        check_specs=[dg.AssetCheckSpec(name, asset=[model, "deployment"]) for name in names],
    )
    def deployment() -> dg.MaterializeResult:
        if breaks:
            raise dg.Failure("it breaks")
        results = [
            dg.AssetCheckResult(check_name=name, passed=better, severity=dg.AssetCheckSeverity.WARN) for name in names
        ]
        return dg.MaterializeResult(check_results=results)

    made = dg.define_asset_job(model, selection="*", tags={MODEL: model})
    return dg.Definitions(assets=[evaluation, deployment], jobs=[made]).resolve_job_def(model)


def made_run(
    instance: dg.DagsterInstance,
    request: dg.RunRequest,
    status: str = "STARTED",
    prepared: dg.JobDefinition | None = None,
) -> dg.DagsterRun:
    """The run that Dagster makes of a request, which goes on."""
    assert request.job_name is not None
    tags = {MODEL: request.job_name, **request.tags, "dagster/run_key": request.run_key or ""}
    definition = prepared or job(request.job_name)
    return instance.create_run_for_job(definition, tags=tags, status=dg.DagsterRunStatus(status))


@dataclass
class Loop:
    """Models with champions, in a lake, an MLflow and a Dagster of their own."""

    home: Path
    mlflow_uri: str
    instance: dg.DagsterInstance
    now: datetime = NOON
    cursor: str | None = None
    model: str = field(default_factory=lambda: f"weather_{uuid.uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        self.lake = Lake(uri=str(self.home / "lake"), cache=str(self.home / "cache"))
        self.tracking = Tracking(uri=self.mlflow_uri, lake=self.lake)
        self.ledger = RetrainLedger(self.lake)

    def spec(self, **retrain: Any) -> ModelSpec:
        """The model's YAML, whose source is a folder of its own."""
        return spec(model=self.model, source__uri="source/*.csv", retrain=retrain)

    def champion(self, model: str = "", **tags: str) -> int:
        """Register a version that is champion now."""
        from mlflow.exceptions import MlflowException

        client, name = self.tracking.client, model or self.model
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            assert error.error_code == "RESOURCE_ALREADY_EXISTS"
        made = client.create_model_version(name, "s3://lake/model", tags={"sha256": "0" * 64, **tags})
        client.set_registered_model_alias(name, "champion", made.version)
        return int(made.version)

    def drift(self, *days_ago: int, **changed: Any) -> None:
        """Reports above the threshold."""
        for days in days_ago:
            report(self.lake, self.model, (self.now - days * DAY).date(), 0.9, **changed)

    def put(self, name: str, content: str) -> None:
        """A source object."""
        self.lake.store.replace(f"source/{name}", content.encode())

    def look(self, model: ModelSpec, watch: RetrainWatch | None = None, **later: float) -> Looked:
        """A look at the model, after a while, by a daemon that has just started unless its watch is given."""
        self.now += timedelta(**later)
        watch = watch or RetrainWatch([model])
        looked = watch.look(self.instance, self.lake, self.tracking, self.cursor, self.now)
        self.cursor = looked.cursor
        return looked

    def said(self, model: ModelSpec, **later: float) -> str:
        """What a look says of the model, which begins nothing."""
        looked = self.look(model, **later)
        assert looked.requests == []
        return looked.said[self.model]

    def run(self, request: dg.RunRequest, **ends: bool) -> str:
        """Execute the run of a request, which takes its entry; its id."""
        result = job(self.model, **ends).execute_in_process(
            instance=self.instance, tags={MODEL: self.model, **request.tags}, raise_on_error=False
        )
        self.ledger.begin(result.dagster_run, self.model, "d")
        return result.run_id
