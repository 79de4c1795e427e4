"""The commands about models in service, as they are called; what they do is tested where it stands."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from mlops_assets.cli import model_commands
from mlops_assets.cli.program import main
from mlops_assets.ml import values
from resources.lake.lake import Lake

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

NOON = datetime(2026, 11, 17, 12, tzinfo=UTC)


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def ledger(tmp_path: Path, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A space in whose ledger version 3 of `m` has been champion since noon, and none for an hour before."""
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    monkeypatch.setenv("MLOPS_SPACE", "ann")
    lake = Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache"), space="ann")
    noon = NOON.timestamp()
    evidence = {"decision": "beats champion version 2", "metrics": {"auc": float("nan")}, "overridden": {}}
    entry = {"alias": "champion", "sha256": "a" * 64, "actor": "user ann", "evidence": evidence}
    for version, before, reason, time in (
        (2, None, "there is no champion yet", noon - 7200),
        (None, 2, "it was renamed", noon - 3600),
        (3, None, "beats champion version 2", noon),
    ):
        lake.append(
            "m/ledger", entry | {"version": version, "previous_version": before, "reason": reason, "time": time}
        )
    return tmp_path


@pytest.mark.parametrize("moment", ["2026-11-17T12:00", "2026-11-17T13:00+01:00", "2026-11-18"])
def test_the_champion_of_a_moment_is_told_with_its_reason(ledger: Path, moment: str) -> None:
    result = call("served", "m", "--at", moment)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith("Version 3 of m was champion at 2026-11-1")
    assert [line.split(maxsplit=1) for line in lines[1:6]] == [
        ["since", "2026-11-17 12:00:00 UTC"],
        ["until", "now"],
        ["by", "user ann"],
        ["because", "beats champion version 2"],
        ["before", "it          no version"],
    ]
    assert lines[6].split() == ["digest", "a" * 64]
    assert call("served", "m").output.startswith("Version 3 of m was champion at 20")


def test_programs_get_the_same_as_strict_json(ledger: Path) -> None:
    found = json.loads(call("served", "m", "--at", "2026-11-17T12:00", "--json").output, parse_constant=pytest.fail)
    assert (found["model"], found["version"], found["at"]) == ("m", 3, "2026-11-17T12:00:00Z")
    assert found["move"]["actor"] == "user ann"
    assert found["move"]["since"] == "2026-11-17T12:00:00Z"
    assert found["move"]["until"] is None
    assert found["move"]["evidence"]["metrics"] == {"auc": None}


@pytest.mark.parametrize(
    ("moment", "told"),
    [
        ("2026-11-17T11:30", "No version of m was champion at 2026-11-17 11:30:00 UTC\n"),
        ("2026-11-17T11:30", "  because            it was renamed\n"),
        (
            "2026-11-17T09:00",
            "was champion at 2026-11-17 09:00:00 UTC; the first one was so from 2026-11-17 10:00:00 UTC",
        ),
    ],
)
def test_that_none_was_champion_is_an_answer_too(ledger: Path, moment: str, told: str) -> None:
    result = call("served", "m", "--at", moment)
    assert result.exit_code == 0
    assert told in result.output
    assert json.loads(call("served", "m", "--at", moment, "--json").output)["version"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (
            ("served", "iriss"),
            1,
            "There is no model iriss (did you mean iris?); mlops-assets models lists what there is",
        ),
        (("served", "iris"), 1, "No version of iris has ever been champion; mlops-assets models"),
        (("served", "m", "--at", "0001-01-01T00:00+14:00"), 2, "is no moment"),
        (("lineage", "id", "--days", "9999999999"), 2, "9999999999 is not in the range"),
        (("served", "m", "--at", "yesterday"), 2, "'yesterday' is no moment; write one such as 2026-11-17T12:00"),
        (("lineage", "r1", "--day", "today"), 2, "'today' does not match the format"),
        (("lineage", "r1", "--days", "0"), 2, "0 is not in the range"),
        (
            ("lineage", "golden-rows", "--model", "m"),
            1,
            "golden-rows is the id of the requests by which roll-outs prove",
        ),
        (
            ("lineage", "r1", "--model", "m"),
            1,
            "The inference log of m has no request r1 in the last 90 days; a server",
        ),
        (("lineage", "r1", "--model", "m", "--day", "2026-11-17"), 1, "has no request r1 on 2026-11-17; a server"),
        (("rollback", "m", "0", "--reason", "x"), 2, "0 is not in the range"),
        (("rollback", "m", "4"), 2, "Missing option '--reason'"),
        (
            ("rollback", "m", "4", "--reason", "x"),
            1,
            "There is no version 4 of m in MLflow; name one that is there: none",
        ),
        (("feedback", "m", "no.csv"), 2, "'no.csv' does not exist"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_told_or_done_is_said_in_one_sentence(
    ledger: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    result = call(*arguments)
    assert result.exit_code == code
    assert told in " ".join(result.output.split())
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("moment", "state"), [("11:59", None), ("13:00", "canary"), ("14:00", "promoted"), ("15:00", None), ("17:00", None)]
)
def test_a_roll_out_that_was_under_way_is_told(ledger: Path, moment: str, state: str | None) -> None:
    lake = Lake(uri=str(ledger / "lake"), cache=str(ledger / "cache"), space="ann")
    for version, reached, hours in ((4, "canary", 0.5), (4, "promoted", 2), (5, "ready", 4), (5, "rolled_back", 4.5)):
        entry = {"version": version, "state": reached, "found": "0 failed", "actor": "user ann"}
        lake.append("m/rollouts", entry | {"time": NOON.timestamp() + hours * 3600})
    move = {"alias": "champion", "sha256": "b" * 64, "actor": "user ann", "evidence": {}, "reason": "better"}
    lake.append("m/ledger", move | {"version": 4, "previous_version": 3, "time": NOON.timestamp() + 2.5 * 3600})
    found = json.loads(call("served", "m", "--at", f"2026-11-17T{moment}", "--json").output)
    assert (found["rollout"] or {"state": None})["state"] == state
    lines = [
        line for line in call("served", "m", "--at", f"2026-11-17T{moment}").output.splitlines() if "canary" in line
    ]
    assert bool(lines) == (state == "canary")


def test_models_come_as_json_too(ledger: Path) -> None:
    found = {model["name"]: model for model in json.loads(call("models", "--json").output)}
    assert found["iris"]["state"] == "defined"
    assert found["iris"]["file"].endswith("iris/defs.yaml")
    assert found["iris"]["served"] is None


def test_feedback_needs_a_champion_to_know_what_fits(ledger: Path) -> None:
    (ledger / "labels.csv").write_text("request_id,label\na,1\n")
    result = call("feedback", "m", ledger / "labels.csv")
    assert result.exit_code == 1
    assert "m has no champion, so nobody knows which labels fit it" in result.output


def test_the_most_days_are_those_of_the_yaml() -> None:
    assert model_commands.MOST_DAYS == values.MOST_DAYS
