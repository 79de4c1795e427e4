"""What is known of a champion, as the policy takes it: from its version in MLflow and the drift reports about it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import AwareDatetime

from mlops_assets.assets.drift_report import drift_summaries
from mlops_assets.assets.registered_model import CODE, SOURCE_VERSION
from mlops_assets.ml.automation.retrain_policy import RetrainFacts, WindowFact
from mlops_assets.ml.errors import TrackingRefused
from mlops_assets.ml.evaluation.metrics import GREATER_IS_BETTER
from mlops_assets.ml.values import Value

if TYPE_CHECKING:
    from mlops_assets.assets.handles import DriftSummary
    from mlops_assets.spec.model_spec import ModelSpec, Retrain
    from resources.lake.lake import Lake
    from resources.tracking.mlflow_tracking import Tracking

WITHOUT_SCORE = 7  # days that are passed over, besides those that count
UNKNOWN = "unknown"


class Champion(Value):
    """What a version says of itself that no longer changes; what versions of older releases do not say is None."""

    version: int
    trained_at: AwareDatetime
    source_version: str | None
    code_version: str | None
    test_metric: float | None


def champion(spec: ModelSpec, number: int, tracking: Tracking) -> Champion:
    """The champion's own facts.

    Raises:
        TrackingRefused: the version is gone, was not registered here, or somebody has changed its tags.
    """
    found = tracking.described(spec.model, number)
    if found is None or "sha256" not in found.tags:
        what = f"Version {number} of {spec.model}, which has the alias champion in MLflow, was not registered here"
        raise TrackingRefused(what, remedy="point the alias at a version of this platform")
    metric = found.tags.get(f"test_{spec.gate.metric}")
    return Champion(
        version=number,
        trained_at=found.registered_at,
        source_version=found.tags.get(SOURCE_VERSION) or None,
        code_version=found.tags.get(CODE) or None,
        test_metric=_number(spec, number, metric) if metric else None,
    )


def _number(spec: ModelSpec, version: int, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        what = f"Version {version} of {spec.model} has {text!r} as its tag test_{spec.gate.metric} in MLflow"
        raise TrackingRefused(what, remedy="put the number back that its run has") from error


def window_facts(spec: ModelSpec, retrain: Retrain, champion: Champion, lake: Lake) -> tuple[WindowFact, ...]:
    """What the newest drift reports say of the champion; none where the policy does not ask."""
    if not retrain.reads_reports:
        return ()
    reports = drift_summaries(lake, spec.model, last=retrain.of_windows + WITHOUT_SCORE)
    return tuple(
        WindowFact(
            day=report.day,
            # As the YAML has it now: it may have changed since the report was made
            has_drifted=None if report.score is None else report.score > spec.monitor.drift_threshold,
            performance_loss=_loss(spec, report, champion),
        )
        for report in reports
        if report.model_version == str(champion.version)
    )


def _loss(spec: ModelSpec, report: DriftSummary, champion: Champion) -> float | None:
    """By how much the metric of labelled rows is worse than on the test part; None where too few rows have a label."""
    live, test = report.metrics.get(spec.gate.metric), champion.test_metric
    if live is None or test is None or not math.isfinite(live) or report.labelled < spec.monitor.min_rows:
        return None
    return test - live if GREATER_IS_BETTER[spec.gate.metric] else live - test


def facts(
    champion: Champion,
    windows: tuple[WindowFact, ...],
    source: str | None,
    code: str,
    in_progress: str | None,
) -> RetrainFacts:
    """The facts of a model. What is not known now, or was not when the champion was made, counts as unchanged."""
    trained_on = champion.source_version or source or UNKNOWN
    return RetrainFacts(
        trained_at=champion.trained_at,
        trained_on=trained_on,
        data=source or trained_on,
        trained_by=champion.code_version or code,
        code=code,
        windows=windows,
        in_progress=in_progress,
    )
