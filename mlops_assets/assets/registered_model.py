"""registered_model: makes the artifact a version in MLflow's registry, with its lineage, under the alias challenger."""

import tempfile
from pathlib import Path

import dagster as dg

from mlops_assets.assets.handles import Evaluation, Features, RawData, RegisteredModel, TrainedModel
from mlops_assets.assets.stage import StageReport, check, stage
from mlops_assets.ml.inference.artifact import GRAPH
from mlops_assets.spec.model_spec import ModelSpec
from resources.environment import git_commit
from resources.lake.digests import sha256
from resources.lake.lake import Lake
from resources.serving.serving_target import ServingTarget
from resources.tracking.mlflow_model import save_onnx
from resources.tracking.mlflow_tracking import RegisteredVersion, Tracking, actor

CODE_VERSION = "1"


def registered_model_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """A version in the registry; an artifact that is one already is not registered twice."""
    name = "registered_model"
    checks = [
        check(spec, name, "reloads", "The registered artifact can be read back and has the digest of the judged one")
    ]
    inputs = ("raw_data", "features", "trained_model", "evaluation")

    @stage(
        spec,
        name,
        CODE_VERSION,
        RegisteredModel,
        *inputs,
        kinds={"mlflow"},
        description="A version in MLflow",
        checks=checks,
    )
    def registered_model(
        context: dg.AssetExecutionContext,
        raw_data: RawData,
        features: Features,
        trained_model: TrainedModel,
        evaluation: Evaluation,
        lake: Lake,
        tracking: Tracking,
        serving: ServingTarget,
    ) -> StageReport:
        serving.warm_up()
        version = known = tracking.version_of(spec.model, trained_model.sha256)
        if version is None:
            tags = lineage(raw_data, features, trained_model, evaluation) | {"dagster_run_id": context.run.run_id}
            tags[f"test_{spec.gate.metric}"] = f"{evaluation.metrics[spec.gate.metric]:.6f}"
            artifact = lake.fetch(trained_model.prefix, trained_model.version)
            version = register(spec, context, artifact, tags, tracking)
        reloads = reload_check(version, tracking)
        if reloads.passed:
            evidence = {"metrics": evaluation.metrics}
            tracking.move_alias(version, "challenger", "registered", actor(context.run), evidence)
        return report(version, evaluation, reloads, tracking.version_url(version), is_known=known is not None)

    return registered_model


def lineage(raw: RawData, features: Features, model: TrainedModel, evaluation: Evaluation) -> dict[str, str]:
    """What leads from a version back to the source objects and the code."""
    return {
        "sha256": model.sha256,
        "snapshot": f"{model.prefix}/{model.version}",
        "raw_data_version": raw.version,
        "prepared_data_version": features.prepared.version,
        "features_version": features.version,
        "evaluation_version": evaluation.version,
        "source": raw.uri,
        "git_commit": git_commit(),
    }


def register(
    spec: ModelSpec, context: dg.AssetExecutionContext, artifact: Path, tags: dict[str, str], tracking: Tracking
) -> RegisteredVersion:
    """Log the artifact as an MLflow ONNX model, with signature and input example, and make it a version."""
    with tempfile.TemporaryDirectory() as draft, tracking.run(spec.model, context) as run:
        folder = Path(draft, "model")
        save_onnx(artifact, folder)
        run.files(folder, "model")
        run.tags({"mlops.sha256": tags["sha256"], "mlops.raw_data_version": tags["raw_data_version"]})
        return tracking.register(spec.model, run, "model", tags, spec.description)


def reload_check(version: RegisteredVersion, tracking: Tracking) -> dg.AssetCheckResult:
    """Reads the artifact back through the server and compares its digest."""
    with tempfile.TemporaryDirectory() as draft:
        found = sha256(tracking.download(version, Path(draft)) / GRAPH)
    return dg.AssetCheckResult(
        check_name="reloads",
        passed=found == version.sha256,
        description=f"digest {found[:12]}…, expected {version.sha256[:12]}…",
    )


def report(
    version: RegisteredVersion,
    evaluation: Evaluation,
    reloads: dg.AssetCheckResult,
    mlflow_version: str,
    *,
    is_known: bool,
) -> StageReport:
    """The version, and whether it is to become champion."""
    return StageReport(
        RegisteredModel(**version.model_dump(), promote=evaluation.beats_champion, decision=evaluation.decision),
        f"{version.version}-{version.sha256[:12]}",
        metadata={
            "version": version.version,
            "registered": "skipped: this artifact is a version already" if is_known else "now",
            "mlflow_version": dg.MetadataValue.url(mlflow_version),
            "sha256": version.sha256,
            "champion": evaluation.decision,
        },
        checks=[reloads],
    )
