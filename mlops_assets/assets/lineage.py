"""Whether the inputs of a stage belong together, what it is made from itself, and which checks a run overrides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from mlops_assets.assets.handles import Lineage
from mlops_assets.ml.errors import DataError, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlops_assets.assets.handles import Handle


def joined_lineage(model: str, inputs: Mapping[str, Handle]) -> Lineage:
    """What the inputs of a stage are made from, together.

    Raises:
        DataError: two of them come from different versions of a stage, or a check that failed stands in the way.
    """
    joined = Lineage()
    made_by = dict[str, str]()  # the input that a version is known from; an input knows its own best
    for name, handle in sorted(inputs.items(), key=lambda item: len(item[1].lineage.versions)):
        for stage_name, version in handle.lineage.versions.items():
            known = joined.versions.get(stage_name, version)
            if known != version:
                other = inputs[made_by[stage_name]].lineage.versions
                stale = [f"{model}/{later}" for later in handle.lineage.versions if later not in other]
                source = made_by[stage_name]
                now = f"that is {known} now" if source == stage_name else f"{source} comes from {known}"
                what = f"{name} comes from {stage_name} {version}, but {now}"
                remedy = (
                    f"they do not belong together: materialize {', '.join(stale or [name])} too, or the whole group"
                )
                raise DataError(what, where=model, remedy=remedy)
            made_by.setdefault(stage_name, name)
        joined = Lineage(
            versions=joined.versions | handle.lineage.versions,
            partition=handle.lineage.partition or joined.partition,
            until=handle.lineage.until or joined.until,
            failed=joined.failed | handle.lineage.failed,
            overridden=joined.overridden | handle.lineage.overridden,
        )
    for failed, reason in joined.failed.items():
        if failed not in joined.overridden:
            stage_name, _, check_name = failed.partition(".")
            override = f"{{ops: {{{model}__{stage_name}: {{config: {{override: {{{check_name}: REASON}}}}}}}}}}"
            what = f"The check {check_name} of {stage_name} failed: {reason.rstrip('.')}"
            remedy = (
                f"materialize {stage_name} again once that is right, or in one run with the configuration {override}"
            )
            raise DataError(what, where=model, remedy=remedy)
    return joined


def own_lineage(
    name: str,
    version: str,
    inherited: Lineage,
    own: Lineage,
    blocking: Sequence[dg.AssetCheckResult],
    override: Mapping[str, str],
) -> Lineage:
    """What the handle of stage `name` is made from, and which of its blocking checks failed or are overridden.

    `own` is what the stage knows itself of the data that it read.
    """
    stops = [result for result in blocking if not result.passed and result.severity == dg.AssetCheckSeverity.ERROR]
    failed = {f"{name}.{result.check_name}": result.description or "" for result in stops}
    reasons = {f"{name}.{check_name}": reason for check_name, reason in override.items()}
    return Lineage(
        versions=inherited.versions | own.versions | {name: version},
        partition=own.partition or inherited.partition,
        until=own.until or inherited.until,
        failed=inherited.failed | failed,
        overridden=inherited.overridden | {key: reason for key, reason in reasons.items() if key in failed},
    )


def check_override(name: str, override: Mapping[str, str], checks: Sequence[str]) -> None:
    """Refuse what a run may not say about the checks of stage `name`.

    Raises:
        SpecError: it has no such check, or the reason is missing.
    """
    for check_name, reason in override.items():
        if check_name not in checks:
            what = f"{name} has no check {check_name} to override"
            raise SpecError(what, remedy=f"its checks are {', '.join(checks)}" if checks else "it has no checks")
        if not reason.strip():
            raise SpecError(f"The override of {check_name} has no reason", remedy="give one; it goes to the ledger")


def with_override(result: dg.AssetCheckResult, override: Mapping[str, str]) -> dg.AssetCheckResult:
    """A failed check that is overridden stays failed, and warns only, so that what is downstream goes on."""
    reason = override.get(result.check_name or "")
    if result.passed or reason is None:
        return result
    return dg.AssetCheckResult(
        check_name=result.check_name,
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{(result.description or '').rstrip('.')}. Overridden in this run: {reason}",
        metadata={**(result.metadata or {}), "overridden": reason},
    )
