"""The transformer beside a real model server: callers send entities, and get what the model says of their features."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from resources.environment import PROJECT, Environment
from resources.features.local_transformer import local_transformer
from resources.local.background_server import BackgroundServer
from tests.stored_views import model
from tests.support import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support import Platform

KNOWN, UNKNOWN = "2026-03-09T08:00:00Z", "2026-03-09T12:00:00Z"  # the newest speed is 19.9, of 07:00


@pytest.fixture
def transformer(stored_platform: Platform) -> Iterator[BackgroundServer]:
    """A transformer for a deployed model, which knows the wind in Bern."""
    platform = stored_platform
    assert platform.run(model(platform)).success
    settings = {
        "MLOPS_HOME": str(platform.home),
        "SERVING_PORT": str(platform.serving_port),
        "MLOPS_FEATURES_PORT": str(free_port()),
    }
    server = local_transformer(Environment.read(settings))
    server.ensure_running()
    yield server
    server.stop()


def ask(url: str, content: Any, **headers: str) -> tuple[int, Any, dict[str, str]]:
    """Status, body and headers of the answer."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
            return answer.status, json.load(answer), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), dict(error.headers)


def test_callers_send_entities_and_get_the_answer_for_their_features(
    transformer: BackgroundServer, stored_platform: Platform
) -> None:
    platform = stored_platform
    path = f"/v1/models/{platform.model}:predict"
    predictor = f"http://127.0.0.1:{platform.serving_port}"
    row = {"place": "Bern", "pressure": 1000}
    for moment, speed in ((KNOWN, 19.9), (UNKNOWN, None)):
        _, expected, _ = ask(f"{predictor}{path}", {"instances": [row | {"speed": speed}]})
        asked = {"instances": [row | {"event_timestamp": moment}]}
        code, found, headers = ask(f"{transformer.url}{path}", asked, **{"X-Request-Id": "mine"})
        assert (code, found["predictions"]) == (200, expected["predictions"])
        assert (headers["x-request-id"], headers["x-model-version"]) == ("mine", "1")

    tensors = [("place", "BYTES", "Bern"), ("pressure", "FP32", 1000), ("event_timestamp", "BYTES", KNOWN)]
    inputs = [{"name": name, "datatype": kind, "shape": [1, 1], "data": [value]} for name, kind, value in tensors]
    code, found, _ = ask(f"{transformer.url}/v2/models/{platform.model}/infer", {"inputs": inputs})
    _, expected, _ = ask(f"{predictor}{path}", {"instances": [row | {"speed": 19.9}]})
    [label] = [output["data"][0] for output in found["outputs"] if output["name"] == "label"]
    assert (code, label) == (200, expected["predictions"][0]["label"])

    for content, status, message in (
        ({"instances": [row | {"speed": 3}]}, 400, "speed is looked up in the feature store (view wind)"),
        ({"instances": [{"place": "Bern"}]}, 400, "pressure"),
        (b"{", 400, "not JSON"),
    ):
        code, told, _ = ask(f"{transformer.url}{path}", content)
        assert (code, message in told["error"]) == (status, True)
    code, told, _ = ask(f"{transformer.url}{path}", {}, **{"Content-Encoding": "gzip"})
    assert (code, told["error"][:28]) == (415, "features are looked up for p")
    assert ask(f"{transformer.url}/v1/models/nothing:predict", {"instances": [row]})[0] == 404
    assert ask(f"{transformer.url}/v1/models/{platform.model}/feedback", {})[0] == 404

    # A predictor that is away is told, and asked again when it is back; of a connection that breaks nobody knows
    # whether the request has come to it, so that one is not sent twice
    pid = platform.serving.server.pid()
    assert pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: ask(f"{transformer.url}{path}", {"instances": [row]})[0] == 503)
    code, told, headers = ask(f"{transformer.url}{path}", {"instances": [row]})
    assert (code, told["error"], headers["retry-after"]) == (503, "the predictor cannot be reached", "1")
    platform.serving.server.ensure_running()
    assert ask(f"{transformer.url}{path}", {"instances": [row]})[0] == 200


def test_one_that_kserve_starts_is_ready_when_it_can_look_up_and_ask_and_answers_for_its_model_alone(
    transformer: BackgroundServer, stored_platform: Platform
) -> None:
    platform, port = stored_platform, free_port()
    told = ["--model_name", platform.model, "--predictor_host", f"127.0.0.1:{platform.serving_port}"]
    command = [sys.executable, "-m", "resources.features.transformer", *told, "--http_port", str(port)]
    variables = {"PYTHONPATH": str(PROJECT), "MLOPS_HOME": str(platform.home)}
    server = BackgroundServer(platform.home / "one", "one", port, "/v2/health/ready", command, variables)
    platform.serving.server.stop()
    table = platform.home / "features" / platform.model / "online.db"
    table.rename(table.with_suffix(".away"))
    server.launch()

    def says(what: str) -> bool:
        return server.log.exists() and what in server.tail()

    try:
        wait_until(lambda: says(f"the views of {platform.model} cannot be read"), 60)
        table.unlink()
        table.with_suffix(".away").rename(table)
        wait_until(lambda: says(f"the predictor of {platform.model} is not ready"), 60)
        assert not server.answers(), "without a predictor it never takes requests"
        platform.serving.server.ensure_running()
        wait_until(server.answers, 60)
        platform.serving.server.stop()
        assert server.answers(), "a predictor that is away is told to callers; see its module"
        platform.serving.server.ensure_running()
        row = {"place": "Bern", "pressure": 1000, "event_timestamp": KNOWN}
        assert ask(f"{server.url}/v1/models/{platform.model}:predict", {"instances": [row]})[0] == 200
        code, told_code, _ = ask(f"{server.url}/v1/models/other:predict", {"instances": [row]})
        assert (code, told_code["error"]) == (404, f"features of {platform.model} alone are looked up here")
    finally:
        server.stop()
