"""deployment: brings the version up beside the champion, verifies golden rows, then lets it take over."""

import tempfile
from pathlib import Path

import dagster as dg

from mlops_assets.assets.handles import Deployment, RegisteredModel
from mlops_assets.assets.stage import StageReport, check, stage
from mlops_assets.spec.model_spec import ModelSpec
from resources.serving.serving_target import Proof, ServingTarget
from resources.tracking.mlflow_tracking import RegisteredVersion, Tracking, actor

CODE_VERSION = "1"


def deployment_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """The endpoint, and the alias `champion`."""
    name = "deployment"
    checks = [check(spec, name, "no_skew", "The endpoint answers golden rows exactly as the offline model did")]

    @stage(
        spec,
        name,
        CODE_VERSION,
        Deployment,
        "registered_model",
        kinds={"kserve"},
        description="What answers at the endpoint",
        checks=checks,
    )
    def deployment(
        context: dg.AssetExecutionContext, registered_model: RegisteredModel, serving: ServingTarget, tracking: Tracking
    ) -> StageReport:
        decision = registered_model.decision
        version = version_to_serve(registered_model, tracking.by_alias(spec.model, "champion"))
        if version.version != registered_model.version:
            context.log.info(f"version {registered_model.version} stays challenger: {decision}")
        with tempfile.TemporaryDirectory() as draft:
            artifact = tracking.download(version, Path(draft))
            proof = serving.deploy(spec.model, artifact, version.sha256, version.version)
        evidence = {"decision": decision, "max_abs_difference": proof.difference, "rows": proof.rows}
        tracking.move_alias(version, "champion", decision, actor(context.run), evidence)
        return report(version, proof, decision, tracking.version_url(version))

    return deployment


def version_to_serve(registered: RegisteredModel, champion: RegisteredVersion | None) -> RegisteredVersion:
    """The new version when it is to be champion, else the champion."""
    if champion is not None and not registered.promote:
        return champion
    return RegisteredVersion(**registered.model_dump(include=set(RegisteredVersion.model_fields)))


def report(version: RegisteredVersion, proof: Proof, decision: str, mlflow_version: str) -> StageReport:
    """Where the model answers, and that it answers as offline."""
    return StageReport(
        Deployment(model=version.model, version=version.version, sha256=version.sha256, url=proof.url),
        f"{version.version}-{version.sha256[:12]}",
        metadata={
            "endpoint": dg.MetadataValue.url(f"{proof.url}/v2/models/{version.model}"),
            "version": version.version,
            "decision": decision,
            "example_request": dg.MetadataValue.md(f"```\n{proof.example}\n```"),
            "mlflow_version": dg.MetadataValue.url(mlflow_version),
        },
        checks=[
            dg.AssetCheckResult(
                check_name="no_skew",
                passed=True,
                description=f"{proof.rows} golden rows, largest difference {proof.difference:.2g}",
                metadata={"max_abs_difference": proof.difference},
            )
        ],
    )
