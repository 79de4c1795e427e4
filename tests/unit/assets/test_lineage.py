"""Whether inputs belong together, what a failed check stops, and what an override changes."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest

from mlops_assets.assets.handles import Handle, Lineage
from mlops_assets.assets.lineage import check_override, joined_lineage, own_lineage, with_override
from mlops_assets.ml.errors import DataError, SpecError

FAILED = dg.AssetCheckResult(
    check_name="gate", passed=False, description="accuracy is 0.5.", metadata={"accuracy": 0.5}
)
WARNED = dg.AssetCheckResult(check_name="gate", passed=False, severity=dg.AssetCheckSeverity.WARN)


def handle(failed: dict[str, str] | None = None, overridden: dict[str, str] | None = None, **versions: str) -> Handle:
    return Handle(lineage=Lineage(versions=versions, failed=failed or {}, overridden=overridden or {}))


def test_inputs_that_come_from_the_same_versions_belong_together() -> None:
    prepared = handle(raw_data="r1", prepared_data="p1")
    model = handle(raw_data="r1", prepared_data="p1", features="f1", trained_model="t1")
    versions = {"raw_data": "r1", "prepared_data": "p1", "features": "f1", "trained_model": "t1"}
    assert joined_lineage("m", {"prepared_data": prepared, "trained_model": model}).versions == versions


def test_a_model_is_not_judged_on_rows_of_another_preparation() -> None:
    prepared = handle(raw_data="r1", prepared_data="p2")
    model = handle(raw_data="r1", prepared_data="p1", features="f1", trained_model="t1")
    with pytest.raises(DataError) as caught:
        joined_lineage("m", {"trained_model": model, "prepared_data": prepared})
    assert str(caught.value) == (
        "m: trained_model comes from prepared_data p1, but that is p2 now; "
        "they do not belong together: materialize m/features, m/trained_model too, or the whole group."
    )


def test_what_is_made_of_older_source_objects_is_not_registered_with_newer_ones() -> None:
    made = {"prepared_data": "p1", "trained_model": "t1", "evaluation": "e1"}
    with pytest.raises(DataError, match="materialize m/prepared_data, m/trained_model, m/evaluation too"):
        joined_lineage("m", {"raw_data": handle(raw_data="r2"), "evaluation": handle(raw_data="r1", **made)})


def test_partition_and_end_of_the_data_are_handed_on() -> None:
    until = datetime(2025, 2, 28, tzinfo=UTC)
    raw = Handle(lineage=Lineage(versions={"raw_data": "r"}, partition="2025-02", until=until))
    inherited = joined_lineage("m", {"raw_data": raw})
    own = own_lineage("prepared_data", "p", inherited, Lineage(), [], {})
    assert own == Lineage(versions={"raw_data": "r", "prepared_data": "p"}, partition="2025-02", until=until)


def test_nothing_goes_on_from_a_check_that_has_failed() -> None:
    failed = {"evaluation.gate": "accuracy is 0.5, wanted at least 0.9"}
    with pytest.raises(DataError) as caught:
        joined_lineage("m", {"evaluation": handle(failed, evaluation="e")})
    assert str(caught.value) == (
        "m: The check gate of evaluation failed: accuracy is 0.5, wanted at least 0.9; materialize evaluation again "
        "once that is right, or in one run with the configuration "
        "{ops: {m__evaluation: {config: {override: {gate: REASON}}}}}."
    )
    assert joined_lineage("m", {"evaluation": handle(failed, {"evaluation.gate": "a holiday"}, evaluation="e")}).failed


def test_only_blocking_checks_that_fail_are_kept_with_the_reason_of_their_override() -> None:
    passed = dg.AssetCheckResult(check_name="finite", passed=True)
    own = own_lineage("features", "f", Lineage(), Lineage(), [FAILED, passed], {"gate": "known", "finite": "unneeded"})
    assert own.failed == {"features.gate": "accuracy is 0.5."}
    assert own.overridden == {"features.gate": "known"}
    assert own_lineage("features", "f", Lineage(), Lineage(), [WARNED], {}).failed == {}


def test_an_overridden_check_stays_failed_and_warns_with_the_reason() -> None:
    result = with_override(FAILED, {"gate": "a holiday"})
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert result.description == "accuracy is 0.5. Overridden in this run: a holiday"
    assert {name: value.value for name, value in result.metadata.items()} == {
        "accuracy": 0.5,
        "overridden": "a holiday",
    }
    assert with_override(FAILED, {}) is FAILED


def test_an_override_names_a_check_of_the_stage_and_gives_a_reason() -> None:
    check_override("evaluation", {"gate": "a holiday"}, ["gate"])
    with pytest.raises(SpecError, match=r"evaluation has no check gates to override; its checks are gate\."):
        check_override("evaluation", {"gates": "a holiday"}, ["gate"])
    with pytest.raises(SpecError, match="The override of gate has no reason"):
        check_override("evaluation", {"gate": " "}, ["gate"])
