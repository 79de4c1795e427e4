"""`make demo`: what it shows while the model's assets are made, and of the answers."""

# Without `from __future__ import annotations`: Dagster reads the annotation of `context` as it stands

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from mlops_assets.demo import MODEL, print_predictions, progress

FLIGHT = {"carrier": "UA", "origin": "EWR", "dest": "IAH", "hour": 5.0, "dep_delay": 2.0}


@dg.asset(key=[MODEL, "raw_data"])
def raw_data(context: dg.AssetExecutionContext) -> None:
    context.log.info("12 objects")


def test_progress_is_what_the_stages_of_the_newest_run_do_and_log() -> None:
    began = datetime.now(UTC) - timedelta(seconds=1)
    with dg.DagsterInstance.ephemeral() as instance:
        assert progress(instance, began, None) == ([], None)
        dg.materialize([raw_data], instance=instance)
        lines, cursor = progress(instance, began, None)
        assert [line for line in lines if "objects" in line or line.startswith("raw_data")] == [
            "raw_data ...",
            "   12 objects",
            "raw_data done",
        ]
        assert progress(instance, began, cursor)[0] == []


def test_runs_from_before_are_not_shown() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([raw_data], instance=instance)
        assert progress(instance, datetime.now(UTC) + timedelta(seconds=5), None) == ([], None)


def test_predictions_stand_beside_what_came_true(capsys: pytest.CaptureFixture[str]) -> None:
    print_predictions([FLIGHT | {"late": 1}], [{"label": 0, "probabilities": [0.75, 0.25]}])
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["carrier", "origin", "dest", "hour", "dep_delay", "P(late)", "predicted", "it", "was"]
    assert line.split() == ["UA", "EWR", "IAH", "5", "2", "0.250", "on", "time", "late"]
