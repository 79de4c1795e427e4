"""evaluation: judges the exported model, not the training object: what is measured here is what will be served."""

import tempfile
from pathlib import Path

import dagster as dg

from mlops_assets.assets.handles import Evaluation, PreparedData, TrainedModel
from mlops_assets.assets.stage import check, read_json, snapshot, stage, told_clearly, version_of
from mlops_assets.ml.evaluation.evaluate import EvaluationReport, evaluate, held_out_columns
from mlops_assets.ml.evaluation.metrics import GREATER_IS_BETTER
from mlops_assets.ml.evaluation.model_card import model_card
from mlops_assets.ml.evaluation.plots import render
from mlops_assets.ml.inference.artifact import load_artifact
from mlops_assets.spec.model_spec import Gate, ModelSpec
from resources.lake.lake import Lake
from resources.tracking.mlflow_tracking import Tracking

CODE_VERSION = "1"


def build(spec: ModelSpec) -> dg.AssetsDefinition:
    """The asset for this model."""
    name = "evaluation"
    checks = [check(spec, name, "gate", f"{spec.gate.metric} on held-out rows reaches {spec.gate.threshold:g}")]

    @stage(
        spec,
        name,
        CODE_VERSION,
        Evaluation,
        "prepared_data",
        "trained_model",
        checks=checks,
        description="Metrics on held-out rows",
    )
    def evaluation(
        context: dg.AssetExecutionContext,
        prepared_data: PreparedData,
        trained_model: TrainedModel,
        lake: Lake,
        tracking: Tracking,
    ) -> dg.MaterializeResult:
        with told_clearly():
            folder, version = judged(spec, prepared_data, trained_model, lake, context)
            report = read_json(EvaluationReport, folder / "evaluation.json")
            rows = lake.fetch(prepared_data.place, prepared_data.version)
            theirs, beats, verdict = compare(spec, report.metrics, trained_model.sha256, rows, tracking)
            with tracking.run(spec.model, context) as run:
                run.metrics({f"test_{key}": value for key, value in report.metrics.items()})
                run.files(folder, "evaluation")
        handle = Evaluation(
            place=f"{spec.model}/{name}",
            version=version,
            sha256=trained_model.sha256,
            metrics=report.metrics,
            champion_metrics=theirs,
            beats_champion=beats,
            verdict=verdict,
        )
        return dg.MaterializeResult(
            value=handle,
            data_version=dg.DataVersion(version),
            metadata={
                **{key: float(value) for key, value in report.metrics.items()},
                "champion": verdict,
                "plots": pictures(
                    [run.artifact_url(f"evaluation/{plot.name}") for plot in sorted(folder.glob("*.png"))]
                ),
                "slices": dg.MetadataValue.md(slices_table(report, spec.gate)),
                "model_card": dg.MetadataValue.md((folder / "model_card.md").read_text()),
                "mlflow_run": dg.MetadataValue.url(run.url),
            },
            check_results=[gate_check(spec.gate, report.metrics)],
        )

    return evaluation


def judged(
    spec: ModelSpec, prepared: PreparedData, model: TrainedModel, lake: Lake, context: dg.AssetExecutionContext
) -> tuple[Path, str]:
    """The folder with report, plots and model card of the artifact on these held-out rows, and its version."""
    version = version_of(CODE_VERSION, model.sha256, prepared.version, spec.gate.slices, spec.target)
    artifact = lake.fetch(model.place, model.version)
    with snapshot(lake, context, f"{spec.model}/evaluation", version) as (folder, missing):
        if missing:
            rows = lake.fetch(prepared.place, prepared.version)
            target, slices = spec.target.column, spec.gate.slices
            report, predictions = evaluate(artifact, model.sha256, rows, target=target, slices=slices)
            (folder / "evaluation.json").write_text(report.model_dump_json(indent=1))
            for name, png in render(report, predictions, artifact / "curve.json").items():
                (folder / f"{name}.png").write_bytes(png)
            (folder / "model_card.md").write_text(model_card(spec.model, spec.description, spec.owners, report))
    return lake.fetch(f"{spec.model}/evaluation", version), version


def compare(
    spec: ModelSpec, metrics: dict[str, float], sha256: str, rows: Path, tracking: Tracking
) -> tuple[dict[str, float] | None, bool, str]:
    """The champion's metrics on the same held-out rows, whether the candidate is to take its place, and why."""
    champion = tracking.by_alias(spec.model, "champion")
    if champion is None:
        return None, True, "there is no champion yet"
    if champion.sha256 == sha256:
        return None, True, f"this is the champion, version {champion.version}"
    with tempfile.TemporaryDirectory() as draft:
        artifact = tracking.download(champion, Path(draft))
        _, signature = load_artifact(artifact, champion.sha256)
        gone = {column.name for column in signature.inputs} - held_out_columns(rows)
        if gone or signature.task != spec.task:
            reason = f"it reads {', '.join(sorted(gone))}, which the data lacks now" if gone else "it has another task"
            return None, True, f"champion version {champion.version} cannot be compared: {reason}"
        report, _ = evaluate(artifact, champion.sha256, rows, target=spec.target.column)
    gate, theirs = spec.gate, report.metrics
    gain = (metrics[gate.metric] - theirs[gate.metric]) * (1 if GREATER_IS_BETTER[gate.metric] else -1)
    wins = gain > gate.beats_champion_by
    outcome = f"{'beats' if wins else 'does not beat'} champion version {champion.version}"
    figures = f"{gate.metric} {metrics[gate.metric]:.4f} against {theirs[gate.metric]:.4f} on the same rows"
    return theirs, wins, f"{outcome}: {figures}, needs more than {gate.beats_champion_by:+g}"


def gate_check(gate: Gate, metrics: dict[str, float]) -> dg.AssetCheckResult:
    """Fails, and says by how much, when the metric does not reach the threshold; nothing is registered then."""
    value = metrics[gate.metric]
    sign = 1 if GREATER_IS_BETTER[gate.metric] else -1
    missing = sign * (gate.threshold - value)
    passed = missing <= 0
    outcome = "passed" if passed else f"missed by {missing:.4f}; registry and endpoint stay as they are"
    wanted = f"{'at least' if sign > 0 else 'at most'} {gate.threshold:g}"
    return dg.AssetCheckResult(
        check_name="gate",
        passed=passed,
        description=f"{gate.metric} is {value:.4f}, wanted {wanted}: {outcome}",
        metadata={gate.metric: float(value), "threshold": float(gate.threshold)},
    )


def slices_table(report: EvaluationReport, gate: Gate) -> str:
    """The gate's metric in each slice, as Markdown."""
    lines = ["| slice | rows | " + gate.metric + " |", "|---|---|---|"]
    lines += [
        f"| {s.column} = {s.value} | {s.rows} | {s.metrics.get(gate.metric, float('nan')):.4f} |" for s in report.slices
    ]
    return "\n".join(lines) if report.slices else "no slices"


def pictures(urls: list[str]) -> dg.MarkdownMetadataValue:
    """Pictures by their address in MLflow; Dagster shows Markdown inline only when it is short."""
    return dg.MetadataValue.md(" ".join(f"![plot]({url})" for url in urls))
