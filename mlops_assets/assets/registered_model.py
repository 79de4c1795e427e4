"""registered_model: makes the artifact a version in MLflow's registry, with its lineage, under the alias challenger."""

import tempfile
from pathlib import Path

import dagster as dg

from mlops_assets.assets.champion import CHAMPION, LOCK_WAIT_S, Origin, older_data, origin_of
from mlops_assets.assets.code_version import code_version
from mlops_assets.assets.handles import Evaluation, Features, RawData, RegisteredModel, TrainedModel
from mlops_assets.assets.stage import StageReport, check, stage
from mlops_assets.ml.inference.artifact import GRAPH, ModelSignature
from mlops_assets.ml.monitoring.reference_profile import ReferenceProfile
from mlops_assets.spec.model_spec import ModelSpec
from resources.environment import git_commit
from resources.lake.digests import sha256
from resources.lake.lake import Lake
from resources.lake.retrain_ledger import retrain_tags
from resources.serving.serving_target import ServingTarget
from resources.tracking.alias_ledger import actor
from resources.tracking.mlflow_model import save_onnx
from resources.tracking.mlflow_tracking import Tracking
from resources.tracking.model_registry import RegisteredVersion

CODE_VERSION = "2"
SOURCE_VERSION, CODE = "source_version", "code_version"


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
        artifact = lake.fetch(trained_model.prefix, trained_model.version)
        with lake.lock(spec.model, wait_s=LOCK_WAIT_S):
            version = known = tracking.version_of(spec.model, trained_model.sha256)
            if version is None:
                tags = version_tags(spec, raw_data, features, trained_model, evaluation, ModelSignature.read(artifact))
                tags |= {"dagster_run_id": context.run.run_id, **retrain_tags(context.run)}
                version = register(spec, context, artifact, tags, tracking)
            reference = lake.fetch(evaluation.prefix, evaluation.version) / ReferenceProfile.FILE
            if reference.exists():  # evaluations of older releases have none
                tracking.add_file(version, reference)
            # A known one was read back to know that it holds the artifact
            reloads = reload_check(version, known.sha256 if known else digest_of(version, tracking))
            older = older_than_champion(spec.model, version, evaluation, tracking)
            if reloads.passed and older is None:
                evidence = {"metrics": evaluation.metrics, "overridden": evaluation.lineage.overridden}
                tracking.move_alias(version, "challenger", "registered", actor(context.run), evidence)
        return report(
            version, evaluation, reloads, tracking.version_url(version), is_known=known is not None, older=older
        )

    return registered_model


def version_tags(
    spec: ModelSpec,
    raw: RawData,
    features: Features,
    model: TrainedModel,
    evaluation: Evaluation,
    signature: ModelSignature,
) -> dict[str, str]:
    """What leads from a version back to the source objects and the code, and says how it was judged."""
    tags = {
        "sha256": model.sha256,
        "snapshot": f"{model.prefix}/{model.version}",
        "raw_data_version": raw.version,
        "features_version": features.version,
        "evaluation_version": evaluation.version,
        "source": raw.uri,
        SOURCE_VERSION: raw.source_version,
        CODE: code_version(spec),
        "git_commit": git_commit(),
        f"test_{spec.gate.metric}": f"{evaluation.metrics[spec.gate.metric]:.6f}",
        **origin_of(evaluation.prepared).tags,
        **{f"overridden.{failed}": reason[:5000] for failed, reason in evaluation.lineage.overridden.items()},
    }
    if spec.task == "binary_classification" and signature.classes:
        tags["positive_class"] = str(signature.classes[1])
    return tags


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


def digest_of(version: RegisteredVersion, tracking: Tracking) -> str:
    """The digest of a version's graph, read back through the server."""
    with tempfile.TemporaryDirectory() as draft:
        return sha256(tracking.download(version, Path(draft)) / GRAPH)


def reload_check(version: RegisteredVersion, found: str) -> dg.AssetCheckResult:
    """Whether the digest that was read back is the version's."""
    return dg.AssetCheckResult(
        check_name="reloads",
        passed=found == version.sha256,
        description=f"digest {found[:12]}…, expected {version.sha256[:12]}…",
    )


def older_than_champion(
    model: str, version: RegisteredVersion, evaluation: Evaluation, tracking: Tracking
) -> str | None:
    """Why a version is no challenger: it is made from older data than the champion, as in a backfill."""
    champion = tracking.by_alias(model, CHAMPION)
    if champion is None or champion.version == version.version:
        return None
    return older_data(Origin.of_tags(tracking.tags_of(champion)), evaluation.lineage.until)


def report(
    version: RegisteredVersion,
    evaluation: Evaluation,
    reloads: dg.AssetCheckResult,
    mlflow_version: str,
    *,
    is_known: bool,
    older: str | None,
) -> StageReport:
    """The version, and how it was judged."""
    return StageReport(
        RegisteredModel(**version.model_dump(), evaluation=evaluation),
        f"{version.version}-{version.sha256[:12]}",
        metadata={
            "version": version.version,
            "registered": "skipped: this artifact is a version already" if is_known else "now",
            "challenger": f"no: {older}" if older else "yes",
            "mlflow_version": dg.MetadataValue.url(mlflow_version),
            "sha256": version.sha256,
            "champion": evaluation.comparison.reason,
        },
        checks=[reloads],
        settles_overrides=True,
    )
