"""Runs that fail are told to a webhook, a real HTTP server here, which may be away, slow or rude."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from pydantic import SecretStr

from mlops_assets.components import drift_alerts
from mlops_assets.components.notifications import People
from mlops_assets.components.run_failures import SENSOR, tell_of_failed_runs
from mlops_assets.definitions import _platform  # pyright: ignore[reportPrivateUsage]
from resources.environment import Environment
from tests.people import PATH, Webhook

if TYPE_CHECKING:
    from collections.abc import Iterator


@dg.op
def broken() -> None:
    raise ValueError("column <!channel> has 3 values that are no number & more\nand a second line")


@dg.op
def given_up() -> None:
    raise dg.Failure("The bucket is away; try again later")


@dg.job
def iris() -> None:
    broken()


@dg.job
def weather() -> None:
    given_up()


def look(instance: dg.DagsterInstance, address: SecretStr, cursor: str | None) -> str | None:
    """One tick of the sensor; where it goes on."""
    sensor = tell_of_failed_runs(People(address, None), "mlops-staging")
    definitions = dg.Definitions(jobs=[iris, weather], sensors=[sensor])
    context = dg.build_sensor_context(
        instance, cursor=cursor, repository_def=definitions.get_repository_def(), sensor_name=SENSOR
    )
    return sensor.evaluate_tick(context).cursor


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def fail(instance: dg.DagsterInstance, job: dg.JobDefinition) -> str:
    return job.execute_in_process(instance=instance, raise_on_error=False).run_id


def test_each_run_that_fails_is_told_once_with_its_cause(instance: dg.DagsterInstance, webhook: Webhook) -> None:
    cursor = look(instance, webhook.address, None)
    first, second = fail(instance, iris), fail(instance, weather)
    cursor = look(instance, webhook.address, cursor)
    look(instance, webhook.address, cursor)
    assert webhook.texts == [
        f"Run {first} of job iris in mlops-staging failed\n"
        "broken: ValueError: column &lt;!channel&gt; has 3 values that are no number &amp; more",
        f"Run {second} of job weather in mlops-staging failed\ngiven_up: The bucket is away; try again later",
    ]


def test_a_run_that_fails_without_a_step_is_told_too(instance: dg.DagsterInstance, webhook: Webhook) -> None:
    cursor = look(instance, webhook.address, None)
    run = instance.create_run_for_job(iris)
    instance.report_run_failed(run, "The worker died 10 times")
    look(instance, webhook.address, cursor)
    assert webhook.texts == [f"Run {run.run_id} of job iris in mlops-staging failed\nThe worker died 10 times"]


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "http://[::1", "http://no-such-host.invalid"])
def test_a_webhook_that_is_away_does_not_stop_the_sensor_and_its_address_stays_secret(
    instance: dg.DagsterInstance, address: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    away = SecretStr(address + PATH)
    cursor = look(instance, away, None)
    run_id = fail(instance, iris)
    after = look(instance, away, cursor)
    assert after != cursor, "it goes on after the run"
    output = caplog.text + "".join(capfd.readouterr())
    assert f"The failure of run {run_id} was not told: the webhook cannot be reached" in output
    assert "kept-secret" not in output


def test_it_is_off_unless_a_webhook_is_set() -> None:
    off, on = Environment.read({}), Environment.read({"MLOPS_ALERT_WEBHOOK": f"https://hooks.slack.com{PATH}"})
    assert [sensor.name for sensor in _platform(off).sensors or []] == []
    assert [sensor.name for sensor in _platform(on).sensors or []] == [SENSOR, drift_alerts.SENSOR]
    assert "kept-secret" not in f"{on!r} {on} {on.model_dump_json()}"
