"""The champion of a model, and whether a candidate takes its place: judged by class names on rows it has not seen."""

from __future__ import annotations

import math
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.assets.handles import Comparison
from mlops_assets.ml.evaluation.evaluate import measure, unfit_inputs
from mlops_assets.ml.evaluation.metrics import GREATER_IS_BETTER
from mlops_assets.ml.inference.artifact import load_artifact
from mlops_assets.ml.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops_assets.assets.handles import PreparedData
    from mlops_assets.ml.inference.artifact import ModelSignature
    from mlops_assets.spec.model_spec import ModelSpec
    from resources.lake.lake import Lake
    from resources.tracking.mlflow_tracking import Tracking
    from resources.tracking.model_registry import RegisteredVersion

CHAMPION = "champion"
LOCK_WAIT_S = 1_800  # longer than another run of the model takes for a rollout, which it makes under the lock


class Origin(Value):
    """What a version was made from, as its tags say; versions of before do not say all of it."""

    prepared_data: str = ""
    split_id: str = ""
    test_from: datetime | None = None
    until: datetime | None = None
    target: str = ""

    @classmethod
    def of_tags(cls, tags: Mapping[str, str]) -> Origin:
        """What the tags say that `tags` has made."""
        return cls(
            prepared_data=tags.get("prepared_data_version", ""),
            split_id=tags.get("split_id", ""),
            test_from=_moment(tags.get("test_from")),
            until=_moment(tags.get("data_until")),
            target=tags.get("target", ""),
        )

    @property
    def tags(self) -> dict[str, str]:
        """The tags of a version; what is not known has none."""
        found = {
            "prepared_data_version": self.prepared_data,
            "split_id": self.split_id,
            "test_from": self.test_from.isoformat() if self.test_from else "",
            "data_until": self.until.isoformat() if self.until else "",
            "target": self.target,
        }
        return {name: value for name, value in found.items() if value}


def origin_of(prepared: PreparedData) -> Origin:
    """What a model is made from that learns from `prepared`."""
    return Origin(
        prepared_data=prepared.version,
        split_id=prepared.split_id,
        test_from=_utc(prepared.test_from),
        until=prepared.lineage.until,
        target=prepared.target,
    )


def compare_with_champion(
    spec: ModelSpec, metrics: Mapping[str, float], sha256: str, prepared: PreparedData, lake: Lake, tracking: Tracking
) -> Comparison:
    """Whether a candidate with these metrics on the test part of `prepared` takes the champion's place.

    Where there is no champion, or the two cannot be compared, the gate alone decides, and the reason says so.
    """
    champion = tracking.by_alias(spec.model, CHAMPION)
    if champion is None:
        place = f" in the space {lake.space}" if lake.space else ""
        return Comparison(champion=None, wins=True, reason=f"there is no champion yet{place}")
    number = champion.version
    if champion.sha256 == sha256:
        return Comparison(champion=number, wins=True, reason=f"this is the champion, version {number}")
    measured = champion_metrics(spec, champion, prepared, lake, tracking)
    metric = spec.gate.metric
    if isinstance(measured, dict) and math.isnan(measured[metric]):
        measured = f"its {metric} is not defined on these rows"
    if isinstance(measured, str):
        reason = f"champion version {number} cannot be compared: {measured}; the gate alone decides"
        return Comparison(champion=number, wins=True, reason=reason)
    gain = (metrics[metric] - measured[metric]) * (1 if GREATER_IS_BETTER[metric] else -1)
    wins = gain > spec.gate.beats_champion_by
    outcome = f"{'beats' if wins else 'does not beat'} champion version {number}"
    figures = f"{metric} {metrics[metric]:.4f} against {measured[metric]:.4f} on the same rows"
    reason = f"{outcome}: {figures}, needs more than {spec.gate.beats_champion_by:+g}"
    return Comparison(champion=number, wins=wins, reason=reason, champion_metrics=measured)


def champion_metrics(
    spec: ModelSpec, champion: RegisteredVersion, prepared: PreparedData, lake: Lake, tracking: Tracking
) -> dict[str, float] | str:
    """The champion's metrics on the test part of `prepared`, or why it cannot be measured there."""
    origin, candidate = Origin.of_tags(tracking.tags_of(champion)), origin_of(prepared)
    with tempfile.TemporaryDirectory() as draft:
        artifact = tracking.download(champion, Path(draft))
        _, signature = load_artifact(artifact, champion.sha256)
        rows = lake.fetch(prepared.prefix, prepared.version)
        reason = (
            another_question(signature, origin, candidate, spec.task, prepared.classes)
            or "; ".join(unfit_inputs(signature, rows))
            or seen_rows(origin, candidate)
        )
        if reason:
            return reason
        return measure(artifact, champion.sha256, rows, target=spec.target.column, classes=prepared.classes)


def another_question(
    signature: ModelSignature, origin: Origin, candidate: Origin, task: str, classes: tuple[object, ...] | None
) -> str | None:
    """Why a champion answers another question than the candidate, or None.

    Of several classes some may be new or gone; with two, another one turns the question around.
    """
    if signature.task != task:
        return f"its task is {signature.task}"
    if origin.target and origin.target != candidate.target:
        return f"it predicts {origin.target}"
    known, wanted = set(signature.classes or ()), set(classes or ())
    if (task == "binary_classification" and known != wanted) or len(known & wanted) < min(2, len(wanted)):
        return f"its classes are {_listed(signature.classes)}, and those of the data {_listed(classes)}"
    return None


def seen_rows(champion: Origin, candidate: Origin) -> str | None:
    """Why the champion may have been trained on some of the candidate's test rows, or None when it was on none."""
    if champion.prepared_data == candidate.prepared_data:
        return None
    trained = "it was trained on some of these rows"
    if not champion.split_id or not candidate.split_id:
        return f"{trained}, as far as is known: its version does not say how its rows were split"
    if champion.split_id != candidate.split_id:
        return f"{trained}: prepare.split has changed since"
    begins = candidate.test_from
    if begins is None:
        return None
    if champion.test_from is None or champion.test_from > begins:
        until = f"{champion.test_from:%Y-%m-%d %H:%M}" if champion.test_from else "an unknown time"
        return f"{trained}: it learned from data up to {until}, and the test part begins {begins:%Y-%m-%d %H:%M}"
    return None


def older_data(champion: Origin, until: datetime | None) -> str | None:
    """Why data that ends at `until` is older than the champion's, or None: it is not, or nobody knows."""
    if champion.until is None or until is None or until >= champion.until:
        return None
    return f"its data ends {until:%Y-%m-%d %H:%M}, and the champion's {champion.until:%Y-%m-%d %H:%M}"


def _moment(text: str | None) -> datetime | None:
    return _utc(datetime.fromisoformat(text)) if text else None


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _listed(classes: tuple[object, ...] | None) -> str:
    return ", ".join(str(name) for name in classes or ())
