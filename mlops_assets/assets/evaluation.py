"""evaluation: judges the exported model, not the training object: what is measured here is what will be served."""

import tempfile
from pathlib import Path

import dagster as dg

from mlops_assets.assets.handles import Evaluation, PreparedData, TrainedModel
from mlops_assets.assets.stage import StageReport, check, snapshot, stage, version_of
from mlops_assets.ml.evaluation.evaluate import EvaluationReport, evaluate, test_columns
from mlops_assets.ml.evaluation.metrics import GREATER_IS_BETTER
from mlops_assets.ml.evaluation.model_card import model_card
from mlops_assets.ml.evaluation.plots import render
from mlops_assets.ml.inference.artifact import load_artifact
from mlops_assets.ml.training.learner import LearningCurve
from mlops_assets.ml.values import Value
from mlops_assets.spec.model_spec import Gate, ModelSpec
from resources.lake.lake import Lake
from resources.tracking.mlflow_tracking import RegisteredVersion, TrackedRun, Tracking

CODE_VERSION = "2"


class Decision(Value):
    """Whether the candidate is to take the champion's place, why, and the champion's metrics on the same rows."""

    beats_champion: bool
    reason: str
    champion_metrics: dict[str, float] | None = None


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
        artifact = lake.fetch(trained_model.prefix, trained_model.version)
        rows = lake.fetch(prepared_data.prefix, prepared_data.version)
        sha256, prefix = trained_model.sha256, f"{spec.model}/{name}"
        version = version_of(CODE_VERSION, sha256, prepared_data.version, spec.gate.slices, spec.target)

        def work(folder: Path) -> None:
            evaluate_artifact(spec, artifact, sha256, rows, folder)

        with snapshot(lake, context.log.info, prefix, version, work) as (folder, _):
            evaluated = EvaluationReport.read(folder)
        folder = lake.fetch(prefix, version)
        decision = compare_with_champion(spec, evaluated.metrics, sha256, rows, tracking)
        with tracking.run(spec.model, context) as run:
            run.metrics({f"test_{key}": value for key, value in evaluated.metrics.items()})
            run.files(folder, name)
        handle = Evaluation(
            prefix=prefix,
            version=version,
            sha256=sha256,
            metrics=evaluated.metrics,
            champion_metrics=decision.champion_metrics,
            beats_champion=decision.beats_champion,
            decision=decision.reason,
        )
        return report(handle, evaluated, spec.gate, folder, run)

    return evaluation


def evaluate_artifact(spec: ModelSpec, artifact: Path, sha256: str, rows: Path, folder: Path) -> None:
    """Fill the snapshot's folder with report, plots and model card of the artifact on the test set in `rows`."""
    evaluated, predictions = evaluate(artifact, sha256, rows, target=spec.target.column, slices=spec.gate.slices)
    evaluated.write(folder)
    for name, png in render(evaluated, predictions, LearningCurve.read(artifact)).items():
        (folder / f"{name}.png").write_bytes(png)
    (folder / "model_card.md").write_text(model_card(spec.model, spec.description, spec.owners, evaluated))


def compare_with_champion(
    spec: ModelSpec, metrics: dict[str, float], sha256: str, rows: Path, tracking: Tracking
) -> Decision:
    """Whether a candidate with these metrics takes the champion's place, judged on the same test set."""
    champion = tracking.by_alias(spec.model, "champion")
    if champion is None:
        return Decision(beats_champion=True, reason="there is no champion yet")
    if champion.sha256 == sha256:
        return Decision(beats_champion=True, reason=f"this is the champion, version {champion.version}")
    compared = champion_metrics(spec, champion, rows, tracking)
    if isinstance(compared, str):
        reason = f"champion version {champion.version} cannot be compared: {compared}"
        return Decision(beats_champion=True, reason=reason)
    gate = spec.gate
    gain = (metrics[gate.metric] - compared[gate.metric]) * (1 if GREATER_IS_BETTER[gate.metric] else -1)
    wins = gain > gate.beats_champion_by
    outcome = f"{'beats' if wins else 'does not beat'} champion version {champion.version}"
    figures = f"{gate.metric} {metrics[gate.metric]:.4f} against {compared[gate.metric]:.4f} on the same rows"
    reason = f"{outcome}: {figures}, needs more than {gate.beats_champion_by:+g}"
    return Decision(beats_champion=wins, reason=reason, champion_metrics=compared)


def champion_metrics(
    spec: ModelSpec, champion: RegisteredVersion, rows: Path, tracking: Tracking
) -> dict[str, float] | str:
    """The champion's metrics on the test set in `rows`, or why it cannot be measured on these rows."""
    with tempfile.TemporaryDirectory() as draft:
        artifact = tracking.download(champion, Path(draft))
        _, signature = load_artifact(artifact, champion.sha256)
        gone = {column.name for column in signature.inputs} - test_columns(rows)
        if gone:
            return f"it reads {', '.join(sorted(gone))}, which the data lacks now"
        if signature.task != spec.task:
            return "it has another task"
        evaluated, _ = evaluate(artifact, champion.sha256, rows, target=spec.target.column)
    return evaluated.metrics


def report(handle: Evaluation, evaluated: EvaluationReport, gate: Gate, folder: Path, run: TrackedRun) -> StageReport:
    """Metrics, plots and model card, and whether the gate lets the model through."""
    plots = [run.artifact_url(f"evaluation/{plot.name}") for plot in sorted(folder.glob("*.png"))]
    return StageReport(
        handle,
        handle.version,
        metadata={
            **{key: float(value) for key, value in evaluated.metrics.items()},
            "champion": handle.decision,
            # By their address: Dagster shows Markdown inline only when it is short
            "plots": dg.MetadataValue.md(" ".join(f"![plot]({url})" for url in plots)),
            "slices": dg.MetadataValue.md(slices_table(evaluated, gate)),
            "model_card": dg.MetadataValue.md((folder / "model_card.md").read_text()),
            "mlflow_run": dg.MetadataValue.url(run.url),
        },
        checks=[gate_check(gate, evaluated.metrics)],
    )


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
