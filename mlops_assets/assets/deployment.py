"""deployment: brings the version up beside the champion, verifies golden rows, then lets it take over.

Whether it takes over is decided here, under the model's lock: against the champion that is there now, which may be
another one than the evaluation has seen. Endpoint, alias and ledger move in one order, one deployment at a time.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_assets.assets.champion import CHAMPION, LOCK_WAIT_S, Origin, compare_with_champion, older_data
from mlops_assets.assets.handles import Comparison, Deployment, RegisteredModel
from mlops_assets.assets.provenance import provenance_metadata, provenance_of
from mlops_assets.assets.stage import StageConfig, StageReport, check, stage
from mlops_assets.ml.errors import DataError
from mlops_assets.ml.evaluation.plots import scores_of_both
from mlops_assets.ml.values import Value
from mlops_assets.spec.model_spec import ModelSpec
from resources.lake.lake import Lake
from resources.lake.retrain_ledger import retrain_tags
from resources.serving.golden_rows import Proof, RolloutStep
from resources.serving.live_traffic import LiveTraffic
from resources.serving.serving_target import ServingTarget
from resources.tracking.alias_ledger import actor
from resources.tracking.mlflow_tracking import Tracking
from resources.tracking.model_registry import RegisteredVersion

CODE_VERSION = "2"


class Verdict(Value):
    """Whether a version is to be served, and what speaks against it."""

    champion: RegisteredVersion | None
    comparison: Comparison
    older: str | None
    overridden: dict[str, str]

    @property
    def takes_over(self) -> bool:
        """Whether nothing speaks against it but what is overridden; without a champion nothing does."""
        if self.champion is None:
            return True
        beats = self.comparison.wins or "beats_champion" in self.overridden
        return beats and (self.older is None or "newest_data" in self.overridden)

    @property
    def reason(self) -> str:
        """The verdict in a sentence."""
        reasons = [f"{self.older}; {self.comparison.reason}" if self.older else self.comparison.reason]
        reasons += [f"{name} is overridden: {reason}" for name, reason in self.overridden.items()]
        return "; ".join(reasons)


def deployment_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """The endpoint, and the alias `champion`."""
    name = "deployment"
    checks = [
        check(spec, name, "no_skew", "The endpoint answers golden rows exactly as the offline model did"),
        check(spec, name, "beats_champion", "The version is better than the champion on the same rows", blocking=False),
        check(spec, name, "newest_data", "The version's data is not older than the champion's", blocking=False),
    ]

    @stage(
        spec,
        name,
        CODE_VERSION,
        Deployment,
        "registered_model",
        kinds={"kserve"},
        description="What answers at the endpoint",
        checks=checks,
        after=["online_features"] if spec.views else [],
    )
    def deployment(
        context: dg.AssetExecutionContext,
        config: StageConfig,
        registered_model: RegisteredModel,
        lake: Lake,
        serving: ServingTarget,
        tracking: Tracking,
    ) -> StageReport:
        with lake.lock(spec.model, wait_s=LOCK_WAIT_S) as held:
            verdict = judge(spec, registered_model, config.override, lake, tracking)
            version = version_to_serve(registered_model, verdict)
            if version.version != registered_model.version:
                context.log.info(f"version {registered_model.version} does not take over: {verdict.reason}")
            with tempfile.TemporaryDirectory() as draft:
                artifact = tracking.download(version, Path(draft))
                held.check()
                name = lake.name_of(spec.model)
                proof = serving.deploy(
                    name,
                    artifact,
                    version.sha256,
                    version.version,
                    spec.deploy.inference_log,
                    LiveTraffic(lake.store, name, spec.deploy.rollout, held.check),
                    partial(record_step, context, lake, version),
                    explain=spec.deploy.explain,
                    service=spec.service,
                )
            held.check()
            evidence = ledger_evidence(registered_model, verdict, proof) | retrain_tags(context.run)
            reason = verdict.reason
            if version.version != registered_model.version:  # the entry is missing only if its run ended before
                evidence, reason = {}, "it had become champion already when a run ended that did not write so down"
            tracking.move_alias(version, CHAMPION, reason, actor(context.run), evidence)
        shown = {
            "rollout": steps_table(proof),
            **provenance_metadata(provenance_of(spec.model, str(version.version), lake, tracking)),
        }
        if proof.pairs:
            with tempfile.TemporaryDirectory() as draft, tracking.run(spec.model, context) as run:
                plot = Path(draft, "scores.png")
                plot.write_bytes(scores_of_both(proof.pairs))
                run.file(plot, "rollout")
                shown["scores"] = dg.MetadataValue.md(f"![plot]({run.picture(plot, 'rollout')})")
        return report(version, registered_model, verdict, proof, tracking.version_url(version), shown)

    return deployment


def record_step(context: dg.AssetExecutionContext, lake: Lake, version: RegisteredVersion, step: RolloutStep) -> None:
    """Keep a step of a roll-out, in the lake and in the run's log."""
    context.log.info(f"version {version.version} {step.state}: {step.found}")
    entry = {"version": version.version, "state": step.state, "found": step.found, "actor": actor(context.run)}
    lake.append(f"{version.model}/rollouts", entry)


def judge(
    spec: ModelSpec, registered: RegisteredModel, override: dict[str, str], lake: Lake, tracking: Tracking
) -> Verdict:
    """The verdict on a version, against the champion that there is now."""
    champion, evaluation = tracking.by_alias(spec.model, CHAMPION), registered.evaluation
    comparison = evaluation.comparison
    if (champion.version if champion else None) != comparison.champion:
        try:
            comparison = compare_with_champion(
                spec, evaluation.metrics, registered.sha256, evaluation.prepared, lake, tracking
            )
        except DataError as error:
            reason = f"version {champion.version if champion else None} has become champion since, and {error}"
            comparison = Comparison(champion=champion.version if champion else None, wins=False, reason=reason)
    older = None
    if champion is not None and champion.version != registered.version:
        older = older_data(Origin.of_tags(tracking.tags_of(champion)), evaluation.lineage.until)
    against = {"beats_champion": not comparison.wins, "newest_data": older is not None}
    overridden = {name: reason for name, reason in override.items() if against.get(name)}
    return Verdict(champion=champion, comparison=comparison, older=older, overridden=overridden)


def version_to_serve(registered: RegisteredModel, verdict: Verdict) -> RegisteredVersion:
    """The new version when it takes over, else the champion."""
    if verdict.champion is not None and not verdict.takes_over:
        return verdict.champion
    return RegisteredVersion(**registered.model_dump(include=set(RegisteredVersion.model_fields)))


def ledger_evidence(registered: RegisteredModel, verdict: Verdict, proof: Proof) -> dict[str, Any]:
    """What a later reader of the ledger needs: figures, age of the data, and every override with its reason."""
    evaluation = registered.evaluation
    here = {f"deployment.{name}": reason for name, reason in verdict.overridden.items()}
    return {
        "decision": verdict.reason,
        "metrics": evaluation.metrics,
        "champion_metrics": verdict.comparison.champion_metrics,
        "data_until": evaluation.lineage.until.isoformat() if evaluation.lineage.until else None,
        "overridden": evaluation.lineage.overridden | here,
        **proof.evidence,
    }


def report(
    version: RegisteredVersion,
    registered: RegisteredModel,
    verdict: Verdict,
    proof: Proof,
    mlflow_version: str,
    shown: dict[str, Any],
) -> StageReport:
    """Where the model answers, that it answers as offline, and why this version does; `shown` is shown beside that."""
    return StageReport(
        Deployment(model=version.model, version=version.version, sha256=version.sha256, url=proof.url),
        f"{version.version}-{version.sha256[:12]}",
        metadata={
            # An address that browsers do not resolve is no link
            "endpoint": dg.MetadataValue.url(proof.link) if proof.link else f"{proof.url}/v2/models/{proof.model}",
            "version": version.version,
            "decision": verdict.reason,
            "example_request": dg.MetadataValue.md(f"```\n{proof.example}\n```"),
            "mlflow_version": dg.MetadataValue.url(mlflow_version),
            **shown,
        },
        checks=[
            dg.AssetCheckResult(
                check_name="no_skew",
                passed=True,
                description=f"{proof.rows} golden rows, largest difference {proof.difference:.2g}",
                metadata={"max_abs_difference": proof.difference},
            ),
            dg.AssetCheckResult(
                check_name="beats_champion",
                passed=verdict.comparison.wins,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"version {registered.version}: {verdict.comparison.reason}",
            ),
            dg.AssetCheckResult(
                check_name="newest_data",
                passed=verdict.older is None,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"version {registered.version}: {verdict.older or 'its data is not older'}",
            ),
        ],
    )


def steps_table(proof: Proof) -> dg.MarkdownMetadataValue:
    """The steps of a roll-out, with what was found at each."""
    rows = "\n".join(f"| {step.state} | {step.time:%H:%M:%S} | {step.found} |" for step in proof.steps)
    return dg.MetadataValue.md(f"| state | time (UTC) | found |\n|---|---|---|\n{rows}")
