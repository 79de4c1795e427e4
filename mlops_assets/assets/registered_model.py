"""registered_model: makes the artifact a version in MLflow's registry, with its lineage, under the alias challenger."""

import subprocess
import tempfile
from pathlib import Path

import dagster as dg

from mlops_assets.assets.handles import Evaluation, Features, RawData, RegisteredModel, TrainedModel
from mlops_assets.assets.stage import check, stage, told_clearly
from mlops_assets.spec.model_spec import ModelSpec
from resources.environment import PROJECT
from resources.lake.lake import Lake, sha256
from resources.serving.serving_target import ServingTarget
from resources.tracking.mlflow_model import save_onnx
from resources.tracking.mlflow_tracking import RegisteredVersion, Tracking

CODE_VERSION = "1"


def build(spec: ModelSpec) -> dg.AssetsDefinition:
    """The asset for this model."""
    name = "registered_model"
    checks = [
        check(spec, name, "reloads", "The registered artifact can be read back and has the digest of the judged one")
    ]
    inputs = ("raw_data", "features", "trained_model", "evaluation")

    @stage(spec, name, CODE_VERSION, RegisteredModel, *inputs, checks=checks, description="A version in MLflow")
    def registered_model(
        context: dg.AssetExecutionContext,
        raw_data: RawData,
        features: Features,
        trained_model: TrainedModel,
        evaluation: Evaluation,
        lake: Lake,
        tracking: Tracking,
        serving: ServingTarget,
    ) -> dg.MaterializeResult:
        with told_clearly():
            serving.warm_up()
            version = tracking.version_of(spec.model, trained_model.sha256)
            known = version is not None
            if version is None:
                tags = lineage(spec, context, raw_data, features, trained_model, evaluation)
                version = register(
                    spec, context, lake.fetch(trained_model.place, trained_model.version), tags, tracking
                )
            reloads = reload_check(version, tracking)
            if reloads.passed:
                tracking.move_alias(
                    version, "challenger", "registered", actor(context), {"metrics": evaluation.metrics}
                )
        handle = RegisteredModel(**version.model_dump(), promote=evaluation.beats_champion, verdict=evaluation.verdict)
        return dg.MaterializeResult(
            value=handle,
            data_version=dg.DataVersion(f"{version.version}-{version.sha256[:12]}"),
            metadata={
                "version": version.version,
                "registered": "skipped: this artifact is a version already" if known else "now",
                "mlflow_version": dg.MetadataValue.url(tracking.version_url(version)),
                "sha256": version.sha256,
                "champion": evaluation.verdict,
            },
            check_results=[reloads],
        )

    return registered_model


def lineage(
    spec: ModelSpec,
    context: dg.AssetExecutionContext,
    raw: RawData,
    features: Features,
    model: TrainedModel,
    evaluation: Evaluation,
) -> dict[str, str]:
    """Everything that leads from a version back to the source objects and the code."""
    return {
        "sha256": model.sha256,
        "snapshot": f"{model.place}/{model.version}",
        "raw_data_version": raw.version,
        "prepared_data_version": features.prepared.version,
        "features_version": features.version,
        "evaluation_version": evaluation.version,
        "source": raw.uri,
        "dagster_run_id": context.run.run_id,
        "git_commit": git_commit(),
        f"test_{spec.gate.metric}": f"{evaluation.metrics[spec.gate.metric]:.6f}",
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
        found = sha256(tracking.download(version, Path(draft)) / "model.onnx")
    return dg.AssetCheckResult(
        check_name="reloads",
        passed=found == version.sha256,
        description=f"digest {found[:12]}…, expected {version.sha256[:12]}…",
    )


def actor(context: dg.AssetExecutionContext) -> str:
    """Who moves an alias: the user of the run, or the automation that started it."""
    tags = context.run.tags
    for tag in ("user", "dagster/schedule_name", "dagster/sensor_name"):
        if tag in tags:
            return f"{tag.removeprefix('dagster/')} {tags[tag]}"
    return f"run {context.run.run_id}"


def git_commit() -> str:
    """The commit of the code, `+changes` where the work tree differs from it, or `unknown`."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "status", "--porcelain"], cwd=PROJECT, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+changes" if changes else commit
