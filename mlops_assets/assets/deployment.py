"""deployment: brings the version up beside the champion, proves it on golden rows, then lets it take over."""

import tempfile
from pathlib import Path

import dagster as dg

from mlops_assets.assets.handles import RegisteredModel
from mlops_assets.assets.registered_model import actor
from mlops_assets.assets.stage import check, stage, told_clearly
from mlops_assets.ml.values import Value
from mlops_assets.spec.model_spec import ModelSpec
from resources.serving.serving_target import ServingTarget
from resources.tracking.mlflow_tracking import RegisteredVersion, Tracking

CODE_VERSION = "1"


class Deployment(Value):
    """What answers at the endpoint now."""

    model: str
    version: int
    sha256: str
    url: str


def build(spec: ModelSpec) -> dg.AssetsDefinition:
    """The asset for this model."""
    name = "deployment"
    checks = [check(spec, name, "no_skew", "The endpoint answers golden rows exactly as the offline model did")]

    @stage(
        spec,
        name,
        CODE_VERSION,
        Deployment,
        "registered_model",
        checks=checks,
        description="What answers at the endpoint",
    )
    def deployment(
        context: dg.AssetExecutionContext, registered_model: RegisteredModel, serving: ServingTarget, tracking: Tracking
    ) -> dg.MaterializeResult:
        with told_clearly():
            champion = tracking.by_alias(spec.model, "champion")
            candidate = RegisteredVersion(**registered_model.model_dump(include=set(RegisteredVersion.model_fields)))
            version = candidate if registered_model.promote or champion is None else champion
            if version.version != candidate.version:
                context.log.info(f"version {candidate.version} stays challenger: {registered_model.verdict}")
            with tempfile.TemporaryDirectory() as draft:
                artifact = tracking.download(version, Path(draft))
                proof = serving.deploy(spec.model, artifact, version.sha256, version.version)
            evidence = {"verdict": registered_model.verdict, "max_abs_difference": proof.difference, "rows": proof.rows}
            tracking.move_alias(version, "champion", registered_model.verdict, actor(context), evidence)
        return dg.MaterializeResult(
            value=Deployment(model=spec.model, version=version.version, sha256=version.sha256, url=proof.url),
            data_version=dg.DataVersion(f"{version.version}-{version.sha256[:12]}"),
            metadata={
                "endpoint": dg.MetadataValue.url(f"{proof.url}/v2/models/{spec.model}"),
                "version": version.version,
                "decision": registered_model.verdict,
                "example_request": dg.MetadataValue.md(f"```\n{proof.example}\n```"),
                "mlflow_version": dg.MetadataValue.url(tracking.version_url(version)),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="no_skew",
                    passed=True,
                    description=f"{proof.rows} golden rows, largest difference {proof.difference:.2g}",
                    metadata={"max_abs_difference": proof.difference},
                )
            ],
        )

    return deployment
