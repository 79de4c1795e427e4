"""Looks at models that retrain by themselves: what is begun, what is not and why, and what no crash changes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from mlops_assets.components.retrain_watch import Cursor, RetrainWatch
from mlops_assets.ml.errors import SpecError
from resources.lake.lake import Lake
from resources.lake.retrain_ledger import RetrainLedger
from tests.retraining import Loop, entry, made_run
from tests.support import spec

if TYPE_CHECKING:
    from pathlib import Path


def test_drift_brings_one_run_with_its_reason_and_a_second_look_none(loop: Loop) -> None:
    loop.champion()
    loop.drift(1, 2)
    [request] = loop.look(loop.spec()).requests
    assert (request.job_name, request.run_key) == (loop.model, f"{loop.model}/drift/2026-11-17")
    assert request.tags == {
        "mlops/retrain": "drift/2026-11-17",
        "mlops/retrain_reason": "drift",
        "mlops/retrain_window": "2026-11-17",
        "mlops/retrain_because": "2 of the last 3 windows have drifted, the last one of 2026-11-17",
    }
    assert "drift/2026-11-17 was decided and has no run" in loop.said(loop.spec(), minutes=1)


def test_a_model_without_a_champion_is_left_to_its_job(loop: Loop) -> None:
    loop.drift(1, 2)
    assert loop.said(loop.spec()) == "it has no champion yet; its first training is begun by its job"


def test_reports_about_other_versions_are_none_about_the_champion(loop: Loop) -> None:
    loop.champion()
    loop.drift(1, 2, version=7)
    assert loop.said(loop.spec()).startswith("no cause: 0 of 0 windows")


@pytest.mark.parametrize(
    ("ends", "begun"),
    [({}, True), ({"better": False}, True), ({"gate": False}, False)],
    ids=["deployed", "not better", "gate failed"],
)
def test_after_a_failed_gate_alone_drift_that_goes_on_begins_nothing(
    loop: Loop, ends: dict[str, bool], begun: bool
) -> None:
    loop.champion()
    loop.drift(1, 2)
    [request] = loop.look(loop.spec()).requests
    loop.run(request, **ends)
    assert "was begun already" in loop.said(loop.spec(), days=2)
    loop.drift(1)
    looked = loop.look(loop.spec())
    assert bool(looked.requests) == begun
    assert begun or "the gate has failed on the same data and code" in looked.said[loop.model]


def test_a_run_that_broke_is_tried_again_after_the_cooldown(loop: Loop) -> None:
    loop.champion()
    loop.drift(1, 2)
    [request] = loop.look(loop.spec()).requests
    loop.run(request, breaks=True)
    assert "was begun less than 1d ago" in loop.said(loop.spec(), hours=1)
    [again] = loop.look(loop.spec(), days=1).requests
    assert again.tags["mlops/retrain"] == "drift/2026-11-17#2"


def test_a_run_of_somebody_else_holds_a_retrain_back(loop: Loop) -> None:
    loop.champion()
    loop.drift(1, 2)
    run = made_run(loop.instance, dg.RunRequest(job_name=loop.model))
    assert loop.said(loop.spec()).endswith(f"but run {run.run_id} is in progress")


# ---- new data, new code ----
def test_new_data_is_told_once_two_listings_have_found_the_same(loop: Loop) -> None:
    model = loop.spec(on_drift=False, on_new_data=True)
    loop.put("a.csv", "1")
    loop.look(model)
    loop.look(model)
    loop.champion(source_version=_version(loop))
    assert loop.said(model).startswith("no cause")
    loop.put("b.csv", "2")
    assert loop.said(model).startswith("no cause")
    [request] = loop.look(model).requests
    assert request.tags["mlops/retrain_reason"] == "new data"
    assert "mlops/retrain_window" not in request.tags


def _version(loop: Loop) -> str:
    found = Cursor.model_validate_json(loop.cursor or "").sources[loop.model].version
    assert found is not None
    return found


def test_data_that_a_retrain_has_learned_from_is_no_new_data(loop: Loop) -> None:
    model = loop.spec(on_drift=False, on_new_data=True)
    loop.champion(source_version="of before")
    loop.put("a.csv", "1")
    loop.look(model)
    [request] = loop.look(model).requests
    loop.run(request, better=False)
    loop.put("a.csv", "2")
    loop.look(model, days=2)
    [other] = loop.look(model).requests
    assert other.run_key != request.run_key


def test_a_lost_or_damaged_cursor_begins_nothing(loop: Loop) -> None:
    model = loop.spec(on_drift=False, on_new_data=True)
    loop.put("a.csv", "1")
    loop.look(model)
    loop.look(model)
    loop.champion(source_version=_version(loop))
    for cursor in (None, "", "{", '{"sources": 3}', '{"other": 1}'):
        loop.cursor = cursor
        assert loop.said(model).startswith("no cause")


def test_a_lost_cursor_does_not_end_what_a_failed_gate_blocks(loop: Loop) -> None:
    model = loop.spec(on_drift=True)
    loop.put("a.csv", "1")
    loop.champion(source_version="of before")
    loop.drift(1, 2)
    [request] = loop.look(model).requests
    loop.run(request, gate=False)
    loop.cursor = None
    loop.drift(0)
    assert "the gate has failed on the same data" in loop.said(model, days=2)


def test_another_yaml_is_new_code(loop: Loop) -> None:
    loop.champion(code_version="of before")
    [request] = loop.look(loop.spec(on_drift=False, on_new_code=True)).requests
    assert request.tags["mlops/retrain_reason"] == "new code"


def test_a_champion_of_an_older_release_says_nothing_of_its_data_and_code(loop: Loop) -> None:
    loop.champion()
    loop.put("a.csv", "1")
    model = loop.spec(on_drift=False, on_new_data=True, on_new_code=True)
    assert [loop.said(model)[:8] for _ in range(3)] == ["no cause"] * 3


# ---- daemons that die, and two at once ----
def test_an_entry_without_a_run_waits_for_the_run_of_somebody_else_and_for_the_end_of_quiet_hours(loop: Loop) -> None:
    loop.champion()
    loop.ledger.write(entry(loop.model))
    run = made_run(loop.instance, dg.RunRequest(job_name=loop.model))
    assert f"has no run, but run {run.run_id} is in progress" in loop.said(loop.spec(), minutes=6)
    loop.instance.delete_run(run.run_id)
    quiet = loop.spec(quiet_hours={"begin": "12:00", "end": "14:00"})
    assert "has no run, but it is quiet from 12:00 to 14:00 (UTC)" in loop.said(quiet)
    [request] = loop.look(quiet, hours=2).requests
    assert request.tags["mlops/retrain"] == "drift/2026-11-17"


def test_an_entry_whose_daemon_died_before_the_run_was_asked_for_is_asked_for_later_once(loop: Loop) -> None:
    loop.champion()
    loop.ledger.write(entry(loop.model))
    assert "has no run" in loop.said(loop.spec(), minutes=4)
    [request] = loop.look(loop.spec(), minutes=2).requests
    assert request.tags["mlops/retrain"] == "drift/2026-11-17"
    assert "has no run" in loop.said(loop.spec(), minutes=1)
    made_run(loop.instance, request)
    loop.drift(0, 1, 2)
    assert "is in flight" in loop.said(loop.spec(), minutes=10)


def test_a_run_that_was_made_and_never_launched_is_asked_for_again(loop: Loop) -> None:
    loop.champion()
    loop.now = datetime.now(UTC)  # by which Dagster tells when a run was made
    loop.drift(1, 2)
    loop.ledger.write(entry(loop.model, decided_at=loop.now))
    made = made_run(loop.instance, dg.RunRequest(f"{loop.model}/drift/2026-11-17", job_name=loop.model), "NOT_STARTED")
    loop.instance.add_run_tags(made.run_id, {"mlops/retrain": "drift/2026-11-17"})
    assert "is in flight" in loop.said(loop.spec(), minutes=4)
    [again] = loop.look(loop.spec(), minutes=2).requests
    assert again.run_key == made.tags["dagster/run_key"]  # by which Dagster launches the run that is there


def test_of_daemons_that_look_at_once_one_begins(loop: Loop) -> None:
    loop.champion()
    loop.drift(1, 2)
    watches = [RetrainWatch([loop.spec(on_new_code=True)]) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        looked = list(pool.map(lambda watch: loop.look(loop.spec(), watch), watches))
    assert len([request for one in looked for request in one.requests]) == 1
    assert len(loop.lake.store.sizes(f"retrains/{loop.model}/drift/*")) == 1


@pytest.mark.parametrize("wiped", [False, True])
def test_a_retrain_whose_run_was_deleted_is_not_begun_again(loop: Loop, tmp_path: Path, wiped: bool) -> None:
    loop.champion()
    loop.drift(1, 2)
    [request] = loop.look(loop.spec()).requests
    run_id = loop.run(request, breaks=True)
    if wiped:
        (tmp_path / "another").mkdir()
        with dg.DagsterInstance.local_temp(str(tmp_path / "another")) as instance:
            loop.instance = instance
            assert "was begun already" in loop.said(loop.spec(), days=2)
    else:
        loop.instance.delete_run(run_id)
        assert "was begun already" in loop.said(loop.spec(), days=2)


def test_a_run_that_somebody_cancels_is_not_begun_again(loop: Loop) -> None:
    loop.champion()
    loop.drift(1, 2)
    [request] = loop.look(loop.spec()).requests
    loop.instance.report_run_canceled(made_run(loop.instance, request))
    assert "was begun already" in loop.said(loop.spec(), days=2)


def test_a_look_that_nobody_waits_for_any_more_begins_nothing(loop: Loop) -> None:
    loop.champion()
    loop.drift(1, 2)
    late = RetrainWatch([loop.spec()]).look(loop.instance, loop.lake, loop.tracking, None, loop.now, lambda: True)
    assert (late.requests, late.said) == ([], {loop.model: "this look came too late"})
    assert len(loop.look(loop.spec()).requests) == 1


# ---- what goes wrong ----
def test_a_damaged_entry_stops_its_own_model_alone(loop: Loop) -> None:
    other = spec(model=f"{loop.model}_b", source__uri="source/*.csv", retrain={})
    for model in (loop.model, other.model):
        loop.champion(model)
    loop.lake.store.create(f"retrains/{loop.model}/drift/2026-11-17.json", b"{")
    watch = RetrainWatch([loop.spec(), other])
    said = loop.look(loop.spec(), watch).said
    assert "is damaged, or of a newer release: no RetrainEntry" in said[loop.model]
    assert said[other.model].startswith("no cause")


@pytest.mark.parametrize("content", [b"", b"{", b"x", b'{"score": 1e999}', b"\xff\xfe", b"null"])
def test_a_damaged_drift_report_stops_its_own_model_alone(loop: Loop, content: bytes) -> None:
    other = spec(model=f"{loop.model}_b", source__uri="source/*.csv", retrain={})
    for model in (loop.model, other.model):
        loop.champion(model)
    key = f"{loop.model}/drift_report/2026-11-17/latest.json"
    loop.lake.store.replace(key, content)
    said = loop.look(loop.spec(), RetrainWatch([loop.spec(), other])).said
    assert f"{key} of a drift report is damaged; materialize drift_report of that day again" in said[loop.model]
    assert said[other.model].startswith("no cause")


def test_tags_that_somebody_has_changed_stop_their_own_model_alone(loop: Loop) -> None:
    other = spec(model=f"{loop.model}_b", source__uri="source/*.csv", retrain={})
    loop.champion(test_accuracy="very good")
    loop.champion(other.model)
    said = loop.look(loop.spec(), RetrainWatch([loop.spec(), other])).said
    assert "has 'very good' as its tag test_accuracy in MLflow; put the number back" in said[loop.model]
    assert said[other.model].startswith("no cause")


def test_an_error_that_nobody_has_foreseen_is_told_by_its_kind_and_logged_with_its_lines(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop.champion()

    def fails(*_: object, **__: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr("mlops_assets.components.retrain_watch.facts", fails)
    assert "it cannot be looked at: KeyError: 'x'" in loop.said(loop.spec())
    assert "in fails" in caplog.text


def test_what_others_have_put_into_the_ledger_s_folder_is_passed_over(loop: Loop) -> None:
    loop.champion()
    for name in (".DS_Store", "notes.txt", "drift/2026-11-17.again-copy"):
        loop.lake.store.create(f"retrains/{loop.model}/{name}", b"x")
    assert loop.said(loop.spec()).startswith("no cause")


def test_a_source_that_cannot_be_listed_leaves_the_other_causes(loop: Loop) -> None:
    loop.champion()
    loop.drift(1, 2)
    model = spec(model=loop.model, source__uri="../outside/*.csv", retrain={"on_new_data": True})
    looked = loop.look(model)
    assert len(looked.requests) == 1
    assert "its source cannot be listed: ../outside/*.csv leads out of" in looked.said[loop.model]


def test_a_champion_that_is_not_ours_is_said(loop: Loop) -> None:
    loop.champion(sha256="")
    loop.tracking.client.delete_model_version_tag(loop.model, "1", "sha256")
    assert "was not registered here; point the alias" in loop.said(loop.spec())


def test_who_may_only_look_at_a_space_begins_nothing(loop: Loop) -> None:
    loop.champion()
    loop.lake = Lake(uri=loop.lake.uri, cache=loop.lake.cache, owns_space=False)
    with pytest.raises(SpecError, match="may not change what is production's"):
        loop.look(loop.spec())


def test_spaces_have_ledgers_of_their_own(loop: Loop) -> None:
    loop.lake = Lake(uri=loop.lake.uri, cache=loop.lake.cache, space="ann")
    loop.tracking = type(loop.tracking)(uri=loop.mlflow_uri, lake=loop.lake)
    loop.champion(f"ann--{loop.model}")
    loop.drift(1, 2)
    found: Any = loop.look(loop.spec()).requests
    assert [request.job_name for request in found] == [loop.model]
    [place] = loop.lake.store.sizes("retrains/*/drift/*.json")
    assert place == f"retrains/ann--{loop.model}/drift/2026-11-17.json"
    assert RetrainLedger(Lake(uri=loop.lake.uri, cache=loop.lake.cache)).places() == {}
