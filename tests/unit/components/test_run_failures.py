"""Runs that fail are told to a webhook, a real HTTP server here, which may be away, slow or rude."""

from __future__ import annotations

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from pydantic import SecretStr

from mlops_assets.components import run_failures
from mlops_assets.components.run_failures import SENSOR, post, tell_of_failed_runs
from mlops_assets.definitions import _platform  # pyright: ignore[reportPrivateUsage]
from resources.environment import Environment

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = "/services/T0/B0/kept-secret"


class Webhook:
    """An HTTP server that answers with the given codes, then with 200, and keeps what it is told."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.told: list[Any] = []
        self.headers: dict[str, str] = {}
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                webhook.told.append(json.loads(body))
                self.send_response(webhook.codes.pop(0) if webhook.codes else 200)
                for name, value in webhook.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = SecretStr(f"http://127.0.0.1:{self.server.server_port}{PATH}")

    @property
    def texts(self) -> list[str]:
        return [told["text"] for told in self.told]


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    made = Webhook()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


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
    sensor = tell_of_failed_runs(address, "mlops-staging")
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


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_busy_webhook_is_asked_again(webhook: Webhook, code: int) -> None:
    webhook.codes, webhook.headers = [code, code], {"Retry-After": "600"}
    assert post(webhook.address, "hello") is None
    assert webhook.texts == ["hello"] * 3


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([404], "answers 404; look whether MLOPS_ALERT_WEBHOOK is right"),
        ([302], "answers 302"),
        ([503] * 9, "answers 503"),
    ],
)
def test_a_webhook_that_refuses_is_told_by_its_answer(webhook: Webhook, codes: list[int], message: str) -> None:
    webhook.codes, webhook.headers = codes, {"Location": "/elsewhere"}
    refused = post(webhook.address, "hello")
    assert refused is not None
    assert message in refused
    assert PATH not in refused


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


def test_a_webhook_that_hangs_is_left_alone(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_failures, "TIMEOUT_S", 0.05)
    webhook.server.shutdown()  # it takes connections, and answers none
    assert "cannot be reached" in (post(webhook.address, "hello") or "")


def test_it_is_off_unless_a_webhook_is_set() -> None:
    off, on = Environment.read({}), Environment.read({"MLOPS_ALERT_WEBHOOK": f"https://hooks.slack.com{PATH}"})
    assert [sensor.name for sensor in _platform(off).sensors or []] == []
    assert [sensor.name for sensor in _platform(on).sensors or []] == [SENSOR]
    assert "kept-secret" not in f"{on!r} {on} {on.model_dump_json()}"
