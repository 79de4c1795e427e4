"""evaluation: judges the exported model, not the training object: what is measured here is what will be served."""

import math
from pathlib import Path

import dagster as dg

from mlops_assets.assets.champion import compare_with_champion
from mlops_assets.assets.handles import Evaluation, PreparedData, TrainedModel
from mlops_assets.assets.stage import StageReport, check, snapshot, stage, version_of
from mlops_assets.ml.errors import DataError
from mlops_assets.ml.evaluation.evaluate import EvaluationReport, evaluate
from mlops_assets.ml.evaluation.metrics import GREATER_IS_BETTER, OF_THE_POSITIVE, shown
from mlops_assets.ml.evaluation.model_card import model_card
from mlops_assets.ml.evaluation.plots import render
from mlops_assets.ml.foreign_text import as_markdown
from mlops_assets.ml.inference.artifact import ModelSignature
from mlops_assets.ml.monitoring.reference_profile import reference_profile
from mlops_assets.ml.training.learner import LearningCurve
from mlops_assets.spec.model_spec import Gate, ModelSpec
from resources.lake.lake import Lake
from resources.tracking.mlflow_tracking import Tracking
from resources.tracking.tracked_run import TrackedRun

CODE_VERSION = "5"


def evaluation_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """Metrics, slices, plots and model card in a snapshot, and how the champion does on the same rows."""
    name = "evaluation"
    checks = [check(spec, name, "gate", f"{spec.gate.metric} on held-out rows reaches {spec.gate.threshold:g}")]

    @stage(
        spec,
        name,
        CODE_VERSION,
        Evaluation,
        "prepared_data",
        "trained_model",
        kinds={"scikitlearn", "mlflow"},
        description="Metrics on held-out rows",
        checks=checks,
    )
    def evaluation(
        context: dg.AssetExecutionContext,
        prepared_data: PreparedData,
        trained_model: TrainedModel,
        lake: Lake,
        tracking: Tracking,
    ) -> StageReport:
        check_question(spec, prepared_data)
        artifact = lake.fetch(trained_model.prefix, trained_model.version)
        rows = lake.fetch(prepared_data.prefix, prepared_data.version)
        sha256, prefix = trained_model.sha256, f"{spec.model}/{name}"
        card = (spec.description, spec.owners)
        version = version_of(CODE_VERSION, sha256, prepared_data.version, spec.gate.slices, spec.target, card)

        def work(folder: Path) -> None:
            evaluate_artifact(spec, artifact, sha256, rows, folder)

        with snapshot(lake, context.log.info, prefix, version, work) as (folder, _):
            evaluated = EvaluationReport.read(folder)
        folder = lake.fetch(prefix, version)
        comparison = compare_with_champion(spec, evaluated.metrics, sha256, prepared_data, lake, tracking)
        with tracking.run(spec.model, context) as run:
            run.metrics({f"test_{key}": value for key, value in evaluated.metrics.items()})
            run.files(folder, name)
        handle = Evaluation(
            prefix=prefix,
            version=version,
            sha256=sha256,
            prepared=prepared_data,
            metrics=evaluated.metrics,
            comparison=comparison,
        )
        return report(handle, evaluated, spec.gate, folder, run)

    return evaluation


def check_question(spec: ModelSpec, prepared_data: PreparedData) -> None:
    """Refuse a model that was made before the YAML asked for something else.

    Raises:
        DataError: its target, or its kind of task, is not that of the YAML.
    """
    if prepared_data.target != spec.target.definition:
        what = f"The model predicts {prepared_data.target}, and the YAML asks for {spec.target.definition}"
        raise DataError(what, where=spec.model, remedy="materialize the whole group")
    if (prepared_data.classes is None) != (spec.task == "regression"):
        what = f"The model was not made for {spec.task}, for which the YAML asks now"
        raise DataError(what, where=spec.model, remedy="materialize the whole group")


def evaluate_artifact(spec: ModelSpec, artifact: Path, sha256: str, rows: Path, folder: Path) -> None:
    """Fill the snapshot's folder with report, plots, model card and reference profile of the artifact, by `rows`."""
    evaluated, predictions = evaluate(artifact, sha256, rows, target=spec.target.column, slices=spec.gate.slices)
    evaluated.write(folder)
    for name, png in render(evaluated, predictions, LearningCurve.read(artifact)).items():
        (folder / f"{name}.png").write_bytes(png)
    profile = reference_profile(
        rows, ModelSignature.read(artifact), predictions.scores, evaluated.importance, evaluated.metrics
    )
    profile.write(folder)
    (folder / "model_card.md").write_text(model_card(spec.model, spec.description, spec.owners, evaluated))


def report(handle: Evaluation, evaluated: EvaluationReport, gate: Gate, folder: Path, run: TrackedRun) -> StageReport:
    """Metrics, plots and model card, and whether the gate lets the model through."""
    plots = [run.picture(plot, "evaluation") for plot in sorted(folder.glob("*.png"))]
    return StageReport(
        handle,
        handle.version,
        metadata={
            **{key: float(value) for key, value in evaluated.metrics.items()},
            "champion": handle.comparison.reason,
            **({} if evaluated.positive is None else {"positive_class": str(evaluated.positive)}),
            "plots": dg.MetadataValue.md(" ".join(f"![plot]({url})" for url in plots)),
            "slices": dg.MetadataValue.md(slices_table(evaluated, gate)),
            "model_card": dg.MetadataValue.md((folder / "model_card.md").read_text()),
            "mlflow_run": dg.MetadataValue.url(run.url),
        },
        checks=[gate_check(gate, evaluated)],
    )


def gate_check(gate: Gate, evaluated: EvaluationReport) -> dg.AssetCheckResult:
    """Fails, and says by how much, when the metric does not reach the threshold; nothing is registered then."""
    value = evaluated.metrics[gate.metric]
    sign = 1 if GREATER_IS_BETTER[gate.metric] else -1
    missing = sign * (gate.threshold - value)
    stays = "registry and endpoint stay as they are"
    outcome = "passed" if missing <= 0 else f"missed by {missing:.4f}; {stays}"
    found = f"is {value:.4f}"
    if math.isnan(value):
        found = f"is not defined on these {evaluated.rows} rows, as where they are all of one class or have one value"
        outcome = f"so the gate is not passed; {stays}"
    is_of_one = evaluated.positive is not None and gate.metric in OF_THE_POSITIVE
    of_class = f" of class {evaluated.positive}" if is_of_one else ""
    wanted = f"{'at least' if sign > 0 else 'at most'} {gate.threshold:g}"
    return dg.AssetCheckResult(
        check_name="gate",
        passed=missing <= 0,
        description=f"{gate.metric}{of_class} {found}, wanted {wanted}: {outcome}",
        metadata={gate.metric: float(value), "threshold": float(gate.threshold)},
    )


def slices_table(report: EvaluationReport, gate: Gate) -> str:
    """The gate's metric in each slice, as Markdown."""
    lines = ["| slice | rows | " + gate.metric + " |", "|---|---|---|"]
    lines += [
        f"| {as_markdown(f'{s.column} = {s.value}')} | {s.rows} | {shown(s.metrics.get(gate.metric, float('nan')))} |"
        for s in report.slices
    ]
    return "\n".join(lines) if report.slices else "no slices"
