"""Drift is told once for each report, by a real Dagster instance."""

from collections.abc import Iterator

import dagster as dg
import pytest

from mlops_assets.components.drift_alerts import SENSOR, tell_of_drift
from mlops_assets.components.notifications import People
from tests.people import Webhook


class Score(dg.Config):
    value: float = 0.1


@dg.asset(key=["iris", "drift_report"], check_specs=[dg.AssetCheckSpec("drift", asset=["iris", "drift_report"])])
def drift_report(config: Score) -> dg.MaterializeResult:
    said = f"score {config.value}, at most 0.3 is allowed; drifted: petal_length"
    check = dg.AssetCheckResult(
        check_name="drift", passed=config.value <= 0.3, severity=dg.AssetCheckSeverity.WARN, description=said
    )
    return dg.MaterializeResult(check_results=[check])


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def report(instance: dg.DagsterInstance, value: float) -> None:
    config = {"ops": {"iris__drift_report": {"config": {"value": value}}}}
    assert dg.materialize([drift_report], instance=instance, run_config=config).success


def look(instance: dg.DagsterInstance, people: People, cursor: str | None) -> str | None:
    """One tick of the sensor; where it goes on."""
    sensor = tell_of_drift(people, "mlops-staging")
    definitions = dg.Definitions(assets=[drift_report], sensors=[sensor])
    context = dg.build_sensor_context(
        instance, cursor=cursor, repository_def=definitions.get_repository_def(), sensor_name=SENSOR
    )
    return sensor.evaluate_tick(context).cursor


def test_each_report_above_its_threshold_is_told_once(instance: dg.DagsterInstance, webhook: Webhook) -> None:
    people = People(webhook.address, None)
    report(instance, 0.9)
    cursor = look(instance, people, None)
    assert webhook.texts == [], "what was there before is not told"
    report(instance, 0.75)
    cursor = look(instance, people, cursor)
    report(instance, 0.1)
    cursor = look(instance, people, cursor)
    report(instance, 0.5)
    cursor = look(instance, people, look(instance, people, cursor))
    assert webhook.texts == [
        f"Drift of iris in mlops-staging\nscore {score}, at most 0.3 is allowed; drifted: petal_length"
        for score in (0.75, 0.5)
    ]


def test_the_first_report_of_a_model_is_told_too(instance: dg.DagsterInstance, webhook: Webhook) -> None:
    people = People(webhook.address, None)
    cursor = look(instance, people, None)
    report(instance, 0.75)
    look(instance, people, cursor)
    assert len(webhook.texts) == 1


def test_a_cursor_that_somebody_has_set_by_hand_is_as_none(instance: dg.DagsterInstance, webhook: Webhook) -> None:
    people = People(webhook.address, None)
    report(instance, 0.9)
    cursor: str | None = None
    for wrong in ("now", "[1]", '{"iris": "x"}'):
        cursor = look(instance, people, wrong)
        assert webhook.texts == []
    report(instance, 0.8)
    look(instance, people, cursor)
    assert len(webhook.texts) == 1
