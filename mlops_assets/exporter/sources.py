"""What YAMLs, registry, ledgers and drift reports say of each model, as figures."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from mlops_assets.assets.champion import CHAMPION, Origin
from mlops_assets.assets.drift_report import drift_summaries
from mlops_assets.exporter.figures import MAX_COLUMNS, Figure
from mlops_assets.ml.errors import MlopsError
from resources.tracking.alias_ledger import AliasLedger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mlops_assets.assets.handles import DriftSummary
    from mlops_assets.spec.model_spec import ModelSpec
    from resources.lake.lake import Lake
    from resources.tracking.model_registry import ModelRegistry, VersionTags

REPORTS_LOOKED_AT = 7  # for one that has a score
log = logging.getLogger(__name__)


class Reading(NamedTuple):
    """What a source gave, and the number of models of which it gave nothing."""

    figures: tuple[Figure, ...]
    unread: int = 0


def of_each(models: Iterable[str], read: Callable[[str], Iterable[Figure]]) -> Reading:
    """The figures of all models; one that cannot be read is told in the log, and leaves the others alone.

    Raises:
        MlopsError: what all are read of is away.
    """
    figures, unread = list[Figure](), 0
    for model in models:
        try:
            figures += list(read(model))
        except Exception as error:  # whatever is wrong with one model, the others have their figures
            if isinstance(error, MlopsError) and error.retryable:
                raise  # a client has tried for a while, and would for each of the others
            log.warning("no figures of %s: %s", model, error)
            unread += 1
    return Reading(tuple(figures), unread)


def spec_figures(spec: ModelSpec, name: str) -> Iterator[Figure]:
    """What the YAML says; `name` is the model's in MLflow."""
    yield Figure("model_info", (name, spec.task, spec.owners[0] if spec.owners else "nobody"), 1)
    yield Figure("model_drift_threshold", (name,), spec.monitor.drift_threshold)
    demanded = spec.gate.at_least if spec.gate.at_least is not None else spec.gate.at_most
    if demanded is not None:
        yield Figure("model_gate_threshold", (name, spec.gate.metric), demanded)
    if spec.retrain is not None:
        yield Figure("model_retrain_budget", (name,), spec.retrain.per_week)
    if spec.monitor.stale_after is not None:
        yield Figure("model_stale_after_seconds", (name,), spec.monitor.stale_after.total_seconds())


def registry_figures(spec: ModelSpec, registry: ModelRegistry) -> Iterator[Figure]:
    """What MLflow has of a model; nothing where it has none."""
    name, versions = registry.lake.name_of(spec.model), registry.versions(spec.model)
    ours = [version for version in versions if "snapshot" in version.tags]
    if ours:
        yield Figure("model_last_trained_timestamp_seconds", (name,), ours[0].registered_at.timestamp())
    for champion in (version for version in ours if CHAMPION in version.aliases):
        yield from _champion_figures(spec, name, champion)


def _champion_figures(spec: ModelSpec, name: str, champion: VersionTags) -> Iterator[Figure]:
    yield Figure("model_champion_version", (name,), champion.version)
    judged = champion.tags.get(f"test_{spec.gate.metric}")
    if judged is not None:
        yield Figure("model_gate_metric", (name, spec.gate.metric), float(judged))
    if until := Origin.of_tags(champion.tags).until:
        yield Figure("model_data_timestamp_seconds", (name,), until.timestamp())


def ledger_figures(model: str, lake: Lake) -> Iterator[Figure]:
    """What the ledgers of aliases and roll-outs have of a model. Nothing is deleted there: counts never fall."""
    name, moves = lake.name_of(model), AliasLedger(lake, model).moves(CHAMPION)
    yield Figure("model_champion_moves_total", (name,), len(moves))
    if moves and moves[-1].version is not None:
        yield Figure("model_champion_since_timestamp_seconds", (name,), moves[-1].since.timestamp())
    # From 0, so that Prometheus sees the first one
    states = Counter({"promoted": 0, "rolled_back": 0})
    states.update(str(entry["state"]) for entry in lake.entries(f"{model}/rollouts") if "state" in entry)
    for state, count in states.items():
        yield Figure("model_rollout_steps_total", (name, state), count)


def drift_figures(model: str, lake: Lake) -> Iterator[Figure]:
    """What the newest drift report with a score says; nothing where the last days have none."""
    measured = [report for report in drift_summaries(lake, model, REPORTS_LOOKED_AT) if report.score is not None]
    if measured:
        yield from _report_figures(lake.name_of(model), measured[-1])


def _report_figures(name: str, report: DriftSummary) -> Iterator[Figure]:
    assert report.score is not None
    yield Figure("model_drift_score", (name,), report.score)
    yield Figure("model_drift_report_timestamp_seconds", (name,), report.computed_at.timestamp())
    yield Figure("model_drift_rows", (name,), report.rows)
    yield Figure("model_drifted_columns", (name,), sum(report.drifted.values()))
    yield Figure("model_unlabelled_share", (name,), 1 - report.labelled / report.rows if report.rows else 1.0)
    if report.label_delay_s is not None:
        yield Figure("model_label_delay_seconds", (name,), report.label_delay_s)
    for metric, value in report.metrics.items():
        yield Figure("model_live_metric", (name, metric), value)
    columns = sorted(report.values, key=lambda column: (not report.drifted[column], -report.values[column], column))
    for column in columns[:MAX_COLUMNS]:
        yield Figure("model_column_drift", (name, column), report.values[column])
        yield Figure("model_column_drifted", (name, column), report.drifted[column])
