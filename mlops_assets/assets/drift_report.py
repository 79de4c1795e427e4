"""drift_report: the days up to one, as the log has them, against what the version that answered was made from.

Each of its days is read with the labels that have come since, so that a report that is made again knows more.
"""

import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
from pydantic import ValidationError

from mlops_assets.assets.handles import DriftSummary
from mlops_assets.assets.inference_log import DAYS, DayTable, day_table, log_objects, yesterday
from mlops_assets.assets.pod_template import op_tags
from mlops_assets.assets.stage import as_dagster_failure, asset_key, check, snapshot, version_of
from mlops_assets.assets.table_metadata import address
from mlops_assets.ml.errors import DataError
from mlops_assets.ml.evaluation.metrics import shown
from mlops_assets.ml.foreign_text import as_markdown
from mlops_assets.ml.monitoring.compact_log import TABLE
from mlops_assets.ml.monitoring.drift_plot import drift_plot
from mlops_assets.ml.monitoring.drift_report import DriftReport, drift_report, report_without_score
from mlops_assets.ml.monitoring.evidently_report import SAMPLE_ROWS, write_evidently_report
from mlops_assets.ml.monitoring.log_window import Answerer, LogWindow, open_window
from mlops_assets.ml.monitoring.reference_profile import ReferenceProfile
from mlops_assets.spec.model_spec import ModelSpec
from resources.lake.lake import Lake
from resources.tracking.metric_names import metric_names
from resources.tracking.mlflow_tracking import Tracking
from resources.tracking.model_registry import RegisteredVersion
from resources.tracking.tracked_run import TrackedRun

CODE_VERSION = "4"
STAGE = "drift_report"
PLOT, PAGE = "drift.png", "evidently.html"
NO_REFERENCE = "version {} has no reference profile; materialize the model's group, which adds it, or train again"


def drift_report_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """The report of each day."""
    key = asset_key(spec, STAGE)
    told = f"The score of the last {spec.monitor.days} days is at most {spec.monitor.drift_threshold:g}"

    @dg.asset(
        key=key,
        deps=[asset_key(spec, "inference_log")],
        group_name=f"{spec.model}_monitoring",
        owners=list(spec.owners) or None,
        code_version=CODE_VERSION,
        partitions_def=DAYS,
        automation_condition=yesterday(),
        check_specs=[check(spec, STAGE, "drift", told, blocking=False)],
        description="How far inputs and answers have moved, and how good the answers were as far as labels have come",
        kinds={"duckdb", "evidently", "mlflow"},
        op_tags=op_tags(spec, STAGE),
    )
    def drift_report(context: dg.AssetExecutionContext, lake: Lake, tracking: Tracking) -> dg.MaterializeResult:
        day = date.fromisoformat(context.partition_key)
        with as_dagster_failure():
            lake.check_space()
            tables = window_tables(spec, lake, context.log.info, day)
            with watched_version(spec, lake, tracking, tables) as watched:
                prefix, version = f"{lake.name_of(spec.model)}/{STAGE}/{day}", watched.version_of_report(spec)

                def work(folder: Path) -> None:
                    write_report(spec, watched, day, folder, context.log.warning)

                with snapshot(lake, context.log.info, prefix, version, work) as (folder, _):
                    found = DriftReport.read(folder)
                folder = lake.fetch(prefix, version)
            summary = summary_of(found, prefix, version, spec.monitor.drift_threshold)
            lake.store.replace(f"{prefix}/latest.json", summary.model_dump_json(indent=1).encode())
            run = track(tracking.run_of(watched.registered), found, folder, day) if watched.registered else None
        return dg.MaterializeResult(
            data_version=dg.DataVersion(version),
            metadata=_metadata(spec, lake, found, summary, folder, run),
            check_results=[drift_check(found, spec.monitor.drift_threshold)],
        )

    return drift_report


def drift_summaries(lake: Lake, model: str, last: int = 0) -> list[DriftSummary]:
    """The newest report about each day that has one, the last day last; only the `last` ones where that is given.

    Raises:
        DataError: one of them is damaged.
    """
    keys = sorted(lake.store.sizes(f"{lake.name_of(model)}/{STAGE}/*/latest.json"))[-last:]
    contents = ((key, lake.store.read(key)) for key in keys)
    return [_summary(f"{lake.uri}/{key}", content) for key, content in contents if content is not None]


def _summary(place: str, content: bytes) -> DriftSummary:
    try:
        return DriftSummary.model_validate_json(content)
    except ValidationError as error:
        remedy = "materialize drift_report of that day again, or move the object away"
        raise DataError(f"The summary {place} of a drift report is damaged", remedy=remedy) from error


def window_tables(spec: ModelSpec, lake: Lake, log: Callable[[str], None], day: date) -> list[DayTable]:
    """The tables of the days of a window on which somebody asked, with the labels that have come since."""
    model = lake.name_of(spec.model)
    days = [day - timedelta(days=before) for before in reversed(range(spec.monitor.days))]
    return [day_table(lake, log, model, each) for each in days if log_objects(lake, model, each)]


class Watched(NamedTuple):
    """What a report is about: the window, the version that answered last in it, and its reference profile."""

    tables: list[DayTable]
    window: LogWindow | None
    answerer: Answerer | None
    registered: RegisteredVersion | None
    reference: ReferenceProfile | None

    def version_of_report(self, spec: ModelSpec) -> str:
        """The version of the snapshot; the threshold is not in it, since it is applied to the known score."""
        tables, monitor = [table.version for table in self.tables], spec.monitor
        known = (tables, self.answerer, self.reference, spec.deploy.inference_log.leave_out)
        return version_of(CODE_VERSION, *known, monitor.days, monitor.min_rows)


@contextmanager
def watched_version(spec: ModelSpec, lake: Lake, tracking: Tracking, tables: list[DayTable]) -> Generator[Watched]:
    """The window, open, with what is known of the version that answered last in it."""
    paths = [lake.fetch(table.prefix, table.version) / TABLE for table in tables]
    if not paths:
        yield Watched(tables, None, None, None, None)
        return
    with open_window(paths) as window, tempfile.TemporaryDirectory() as draft:
        answerer = window.answerer()
        number = answerer.version if answerer else ""
        registered = tracking.numbered(spec.model, int(number)) if number.isdecimal() else None
        file = tracking.file_of(registered, ReferenceProfile.FILE, Path(draft)) if registered else None
        yield Watched(tables, window, answerer, registered, ReferenceProfile.read(file.parent) if file else None)


def write_report(spec: ModelSpec, watched: Watched, day: date, folder: Path, warn: Callable[[str], None]) -> None:
    """Fill the snapshot's folder: the report, and where it has figures its plot and Evidently's page."""
    days, window, answerer, reference = _days(spec, day), watched.window, watched.answerer, watched.reference
    if window is None or answerer is None:
        report_without_score(days, "not enough data", "nobody has asked, or the log keeps nothing").write(folder)
        return
    if reference is None:
        reason = NO_REFERENCE.format(answerer.version)
        report_without_score(days, "no reference", reason, **answerer.model_dump()).write(folder)
        return
    left_out = spec.deploy.inference_log.leave_out
    report = drift_report(window, answerer, reference, days, spec.monitor.min_rows, left_out)
    report.write(folder)
    if report.score is None:
        return
    (folder / PLOT).write_bytes(drift_plot(report))
    compared = [column.column for column in report.columns]
    profiles = {name: reference.features[name] for name in compared}
    profiles |= {f"output:{name}": column for name, column in reference.predictions.items()}
    try:
        sample = window.sample(answerer, compared, reference, SAMPLE_ROWS)
        write_evidently_report(profiles, sample, folder / PAGE)
    except Exception as error:  # the figures are ours; a page that another library does not make costs none of them
        warn(f"Evidently has made no page: {error}")


def _days(spec: ModelSpec, day: date) -> tuple[date, date]:
    return day - timedelta(days=spec.monitor.days - 1), day


def summary_of(report: DriftReport, prefix: str, version: str, threshold: float) -> DriftSummary:
    """What others need of a report."""
    performance = report.performance
    return DriftSummary(
        prefix=prefix,
        version=version,
        day=report.last_day,
        computed_at=report.computed_at,
        status=report.status,
        reason=report.reason,
        model_version=report.version,
        rows=report.rows,
        labelled=performance.labelled if performance else 0,
        score=report.score,
        threshold=threshold,
        drifted={column.column: column.drifted for column in report.columns},
        values={column.column: column.value for column in report.columns},
        metrics=performance.metrics if performance else {},
        label_delay_s=report.label_delay_s,
    )


def track(run: TrackedRun, report: DriftReport, folder: Path, day: date) -> TrackedRun:
    """Log the figures of a report into the run of the version that answered, the day, such as 20261128, as step."""
    if report.score is not None and report.performance is not None:
        live, drifted = report.performance, len(report.drifted)
        figures = {"drift_score": report.score, "drifted_columns": float(drifted), "live_rows": float(live.rows)}
        figures |= {"live_label_share": 1 - live.unlabelled_share}
        names = metric_names("drift", [column.column for column in report.columns])
        figures |= {names[column.column]: column.value for column in report.columns}
        figures |= {f"live_{name}": value for name, value in live.metrics.items()}
        run.metrics(figures, step=int(f"{day:%Y%m%d}"))
        run.file(folder / PLOT, f"drift/{day}")
        if (folder / PAGE).exists():
            run.file(folder / PAGE, "drift")  # some megabytes: of all days the lake has it, MLflow of the last one
    return run


def drift_check(report: DriftReport, threshold: float) -> dg.AssetCheckResult:
    """Warns when the score is above the threshold, and says which columns have moved."""
    if report.score is None:
        description = f"{report.status}: {report.reason}"
    else:
        moved = f"drifted: {', '.join(report.drifted)}" if report.drifted else "no column has drifted"
        answers = ", ".join(column.column for column in report.predictions if column.drifted)
        description = f"score {report.score:.2f}, at most {threshold:g} is allowed; {moved}"
        description += f"; of the answers: {answers}" if answers else ""
    return dg.AssetCheckResult(
        check_name="drift",
        passed=report.score is None or report.score <= threshold,
        severity=dg.AssetCheckSeverity.WARN,
        description=description,
        metadata={
            column.column: f"{'drifted' if column.drifted else 'as before'}: {column.method} {column.value:.4g}"
            for column in report.columns
        },
    )


def _metadata(
    spec: ModelSpec, lake: Lake, report: DriftReport, summary: DriftSummary, folder: Path, run: TrackedRun | None
) -> dict[str, Any]:
    place = address(lake, f"{summary.prefix}/{summary.version}")
    found: dict[str, Any] = {
        "status": f"{report.status}: {report.reason}" if report.reason else report.status,
        "days": f"{report.first_day} to {report.last_day}",
        "computed_at": dg.MetadataValue.timestamp(report.computed_at),
        "rows": report.rows,
        "rows_of_other_versions": report.other_rows,
        "version": report.version or "none",
        "report": place,
    }
    if report.score is not None and report.performance is not None and run is not None:
        plot = run.picture(folder / PLOT, f"drift/{report.last_day}")
        found |= {
            "score": report.score,
            "threshold": spec.monitor.drift_threshold,
            "label_share": 1 - report.performance.unlabelled_share,
            "columns": dg.MetadataValue.md(columns_table(report)),
            "performance": dg.MetadataValue.md(performance_table(report)),
            "plot": dg.MetadataValue.md(f"![plot]({plot})"),
            "mlflow_run": dg.MetadataValue.url(run.url),
        }
        if (folder / PAGE).exists():
            newest = dg.MetadataValue.url(f"{run.url}/artifacts/drift/{PAGE}")
            found |= {"evidently": f"{place}/{PAGE}", "evidently_of_the_newest_report": newest}
    return found


def columns_table(report: DriftReport) -> str:
    """The verdict on each column, as Markdown."""
    lines = ["| column | share of score | method | value | threshold | drifted | outside | missing | before | new |"]
    lines.append("|---" * 10 + "|")
    for column in (*report.columns, *report.predictions):
        share = f"{report.importance[column.column]:.0%}" if column in report.columns else "answer"
        error = f" ± {column.error:.2g}" if column.error else ""
        cells = (
            column.column,
            share,
            column.method,
            f"{column.value:.4g}{error}",
            f"{column.threshold:g}",
            "**yes**" if column.drifted else "no",
            f"{column.outside:.1%}",
            f"{column.missing:.1%}",
            f"{column.reference_missing:.1%}",
            ", ".join(map(as_markdown, column.new)),
        )
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    for name, reason in report.skipped.items():
        lines.append(f"| {name.replace('|', '/')} | | not compared: {reason} | | | | | | | |")
    return "\n".join(lines)


def performance_table(report: DriftReport) -> str:
    """The metrics of the rows with a label beside those of the test part, and how many have none; as Markdown."""
    live = report.performance
    assert live is not None
    share = f"{live.labelled:,} of {live.rows:,} rows have a label, {live.unlabelled_share:.1%} have none"
    head = f"{share}, as of {report.computed_at:%Y-%m-%d %H:%M} UTC"
    if not live.metrics:
        return head
    rows = [f"| {name} | {shown(value)} | {shown(report.test_metrics[name])} |" for name, value in live.metrics.items()]
    return "\n".join([head, "", "| metric | of labelled rows | of the test part |", "|---|---|---|", *rows])
