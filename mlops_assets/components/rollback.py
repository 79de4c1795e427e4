"""Back to another version that is registered: as a job `<model>_rollback`, and as `mlops-assets rollback`.

It goes the way of a deployment, under the same lock, but is proved on its golden rows alone, as it has had requests
before and is wanted at once; and it moves the alias `champion` and writes the ledger. What cannot be deployed is
refused before anything is changed.
"""

import tempfile
from pathlib import Path

import dagster as dg
from pydantic import Field

from mlops_assets.assets.champion import CHAMPION, LOCK_WAIT_S
from mlops_assets.assets.pod_template import op_tags
from mlops_assets.assets.stage import as_dagster_failure
from mlops_assets.ml.errors import ArtifactError, SpecError
from mlops_assets.ml.inference.artifact import load_artifact
from mlops_assets.serving.log_policy import InferenceLogPolicy
from mlops_assets.spec.model_spec import ROLLBACK_SUFFIX, ModelSpec
from resources.kubernetes.labels import MODEL
from resources.lake.lake import Lake
from resources.serving.serving_target import ServingTarget
from resources.tracking.alias_ledger import AliasLedger, actor
from resources.tracking.mlflow_tracking import Tracking
from resources.tracking.model_registry import RegisteredVersion


def roll_back(
    model: str,
    number: int,
    reason: str,
    by: str,
    serving: ServingTarget,
    tracking: Tracking,
    lake: Lake,
    spec: ModelSpec | None = None,
) -> list[str]:
    """Make a registered version champion again; what was done, a line each.

    It is served as its YAML says, `spec`; without one as the version before. What was killed half way is
    completed by calling it again.

    Raises:
        SpecError: there is no such version, it is the champion, or no reason is given.
        TrackingRefused: the version was not registered here, or has lost its files.
        ArtifactError: its files are damaged.
        DeploymentError: it cannot be served, or answers otherwise than it did; what answered before still does.
    """
    if not reason.strip():
        raise SpecError("A rollback needs a reason", remedy="give one; it goes to the ledger")
    name = lake.name_of(model)
    with lake.lock(model, wait_s=LOCK_WAIT_S) as held, tempfile.TemporaryDirectory() as draft:
        version, champion = _version(model, number, tracking), tracking.by_alias(model, CHAMPION)
        served = serving.current(name)
        written = AliasLedger(lake, model).last_version(CHAMPION)
        if champion == version and written == number and served is not None and served.version == str(number):
            what = f"Version {number} of {model} is the champion already, and answers"
            raise SpecError(what, remedy="name another one of those that MLflow lists")
        artifact = _artifact(version, tracking, Path(draft))
        held.check()
        log, explain = (served.log, served.explain) if served else (InferenceLogPolicy(), False)
        if spec:
            log, explain = spec.deploy.inference_log, spec.deploy.explain
        service = spec.service if spec else None
        proof = serving.deploy(name, artifact, version.sha256, number, log, explain=explain, service=service)
        held.check()
        before = f"version {champion.version}" if champion else "no version"
        evidence = {"decision": f"rolled back from {before}", **proof.evidence}
        tracking.move_alias(version, CHAMPION, reason, by, evidence)
    return [
        f"{model}: version {number} answers at {proof.link or proof.url}, where {before} was champion",
        f"{model}: {proof.rows} golden rows are answered as in training, with a largest difference of "
        f"{proof.difference:.2g}",
    ]


def _version(model: str, number: int, tracking: Tracking) -> RegisteredVersion:
    version = tracking.numbered(model, number)
    if version is None:
        known = ", ".join(str(one.version) for one in tracking.versions(model)) or "none"
        what = f"There is no version {number} of {model} in MLflow"
        raise SpecError(what, remedy=f"name one that is there: {known}")
    return version


def _artifact(version: RegisteredVersion, tracking: Tracking, draft: Path) -> Path:
    """The files of a version, once they are known to be those that were judged."""
    folder = tracking.download(version, draft)
    try:
        load_artifact(folder, version.sha256)
    except ArtifactError as error:
        where = f"version {version.version} of {version.model} in MLflow"
        remedy = "restore the artifacts of its run, or name another version"
        raise ArtifactError(error.what.removesuffix("; refused"), where=where, remedy=remedy) from error
    return folder


class RollbackConfig(dg.Config):
    """Which version a job `<model>_rollback` makes champion."""

    version: int = Field(ge=1, description="The number of the version in MLflow")
    reason: str = Field(description="Why; it goes to the ledger")


def rollback_job(spec: ModelSpec) -> dg.JobDefinition:
    """The job by which a version of this model becomes champion again."""

    @dg.op(
        name=f"{spec.model}__make_champion",  # Dagster wants another name in each job
        # The IO manager keeps handles of assets alone
        out=dg.Out(dg.Nothing),
        description="Proves a registered version on its golden rows, and makes it champion",
        tags=op_tags(spec, "deployment"),
    )
    def make_champion(
        context: dg.OpExecutionContext, config: RollbackConfig, serving: ServingTarget, tracking: Tracking, lake: Lake
    ) -> None:
        by = actor(context.run)
        with as_dagster_failure():
            done = roll_back(spec.model, config.version, config.reason, by, serving, tracking, lake, spec)
        for line in done:
            context.log.info(line)
        context.add_output_metadata({"done": dg.MetadataValue.json(done)})

    @dg.job(
        name=f"{spec.model}{ROLLBACK_SUFFIX}",
        description="Makes another registered version champion again",
        tags={MODEL: spec.model},
    )
    def rollback() -> None:
        make_champion()

    return rollback
