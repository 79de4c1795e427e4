"""The transformer beside a real model server: callers send entities, and get what the model says of their features."""

from __future__ import annotations

import gzip
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import numpy as np
import pytest

from mlops_assets.serving.grpc_messages import CONTENTS, SERVICE, pb
from mlops_assets.serving.inference_protocol import Tensor, binary_tensor, values_of, with_tensors
from mlops_assets.serving.limits import LARGE_BODY
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
        "MLOPS_FEATURES_GRPC_PORT": str(free_port()),
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
    for encoding, status in (("gzip", 400), ("br", 415)):
        assert ask(f"{transformer.url}{path}", {}, **{"Content-Encoding": encoding})[0] == status
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


class Row(NamedTuple):
    """What a caller asks about."""

    place: str
    pressure: float
    event_timestamp: str


def tensors(rows: list[Row]) -> list[Tensor]:
    """The rows, a tensor for each column, with lists."""
    kinds = {"place": "BYTES", "pressure": "FP32", "event_timestamp": "BYTES"}
    return [Tensor(name, kind, [len(rows), 1], [getattr(row, name) for row in rows]) for name, kind in kinds.items()]


def as_bytes(tensor: Tensor) -> bytes:
    dtype: Any = object if tensor.datatype == "BYTES" else np.float32
    return binary_tensor(np.array(tensor.data, dtype))


class Asking:
    """Asks a transformer about rows in every form; the answer are the probabilities."""

    def __init__(self, transformer: BackgroundServer, model: str) -> None:
        self.url, self.model = transformer.url, model
        self.channel = grpc.insecure_channel(f"127.0.0.1:{grpc_port_of(transformer)}")

    def http(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[bytes, Any]:
        request = urllib.request.Request(f"{self.url}{path}", body, {"x-request-id": "mine"} | headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert (answer.headers["x-request-id"], answer.headers["x-model-version"]) == ("mine", "1")
            return answer.read(), answer.headers

    def v1(self, rows: list[Row], *, packed: bool = False) -> list[float]:
        body = json.dumps({"instances": [row._asdict() for row in rows]}).encode()
        encoding = {"content-encoding": "gzip"} if packed else {}
        path = f"/v1/models/{self.model}:predict"
        content, _ = self.http(path, gzip.compress(body) if packed else body, encoding)
        return [value for row in json.loads(content)["predictions"] for value in row["probabilities"]]

    def v2(self, rows: list[Row], *, packed: bool = False) -> list[float]:
        body = json.dumps({"inputs": [tensor._asdict() for tensor in tensors(rows)]}).encode()
        encoding = {"content-encoding": "gzip"} if packed else {}
        path = f"/v2/models/{self.model}/versions/1/infer"
        content, _ = self.http(path, gzip.compress(body) if packed else body, encoding)
        [found] = [output for output in json.loads(content)["outputs"] if output["name"] == "probabilities"]
        return found["data"]

    def binary(self, rows: list[Row], *, packed: bool = False) -> list[float]:
        given = [tensor._replace(data=as_bytes(tensor)) for tensor in tensors(rows)]
        asked = {"outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}]}
        body, json_bytes = with_tensors(asked, "inputs", given)
        headers = {"inference-header-content-length": str(json_bytes)}
        headers |= {"content-encoding": "gzip"} if packed else {}
        content, about = self.http(f"/v2/models/{self.model}/infer", gzip.compress(body) if packed else body, headers)
        data = memoryview(content)[int(about["inference-header-content-length"]) :]
        return values_of(data, "FP32", "")

    def call(self, request: Any) -> Any:
        """The answer to a message."""
        ask: Any = self.channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        return ask(request, timeout=30)

    def grpc(self, rows: list[Row], *, raw: bool = False) -> list[float]:
        request = pb.ModelInferRequest(model_name=self.model, id="mine")
        for tensor in tensors(rows):
            given = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            if raw:
                request.raw_input_contents.append(as_bytes(tensor))
            else:
                values = [value.encode() if isinstance(value, str) else value for value in tensor.data]
                getattr(given.contents, CONTENTS[tensor.datatype]).extend(values)
        found = self.call(request)
        assert (found.id, found.model_version) == ("mine", "1")
        [index] = [index for index, output in enumerate(found.outputs) if output.name == "probabilities"]
        if raw:
            return values_of(memoryview(found.raw_output_contents[index]), "FP32", "")
        return list(found.outputs[index].contents.fp32_contents)


def grpc_port_of(transformer: BackgroundServer) -> int:
    return int(transformer.command[transformer.command.index("--grpc-port") + 1])


def test_every_protocol_and_form_gets_the_same_features(
    transformer: BackgroundServer, stored_platform: Platform
) -> None:
    asking = Asking(transformer, stored_platform.model)
    rows = [Row("Bern", 1000, KNOWN), Row("Bern", 990, UNKNOWN), Row("nowhere", 1010, KNOWN)]
    predictor = f"http://127.0.0.1:{stored_platform.serving_port}/v1/models/{stored_platform.model}:predict"
    complete = [{"place": row.place, "pressure": row.pressure, "speed": None} for row in rows]
    complete[0]["speed"] = 19.9
    _, told, _ = ask(predictor, {"instances": complete})
    wanted = [value for row in told["predictions"] for value in row["probabilities"]]
    for asked_about in (rows, rows * 700):
        large = wanted * (len(asked_about) // len(rows))
        for packed in (False, True):
            for form in (asking.v1, asking.v2, asking.binary):
                assert form(asked_about, packed=packed) == pytest.approx(large, abs=1e-6), form
        for raw in (False, True):
            assert asking.grpc(asked_about, raw=raw) == pytest.approx(large, abs=1e-6), raw
    assert sum(len(as_bytes(tensor)) for tensor in tensors(rows * 700)) > LARGE_BODY


def test_what_is_wrong_over_grpc_is_told_as_over_http(transformer: BackgroundServer, stored_platform: Platform) -> None:
    asking, model = Asking(transformer, stored_platform.model), stored_platform.model

    def message(*named: tuple[str, str, Any], **more: Any) -> Any:
        request = pb.ModelInferRequest(**{"model_name": model} | more)
        for name, datatype, value in named:
            given = request.inputs.add(name=name, datatype=datatype, shape=[1, 1])
            getattr(given.contents, CONTENTS[datatype]).append(value)
        return request

    place, pressure = ("place", "BYTES", b"Bern"), ("pressure", "FP32", 1000)
    assert asking.call(message(place, pressure)).model_name == model
    wrong = (
        (
            message(place, pressure, ("speed", "FP32", 3)),
            "INVALID_ARGUMENT",
            "speed is looked up in the feature store",
        ),
        (message(place), "INVALID_ARGUMENT", "column pressure is missing"),
        (message(place, ("pressure", "FP32", float("inf"))), "INVALID_ARGUMENT", "too large for a float32"),
        (message(place, ("pressure", "INT8", 300)), "INVALID_ARGUMENT", "row 0 is 300, which is no INT8"),
        (message(place, pressure, id="a b"), "INVALID_ARGUMENT", "the id is 'a b'"),
        (message(place, pressure, model_name="nothing"), "NOT_FOUND", "there is no model 'nothing'"),
        (message(place, pressure, model_name="No Name"), "NOT_FOUND", "features are looked up for predictions alone"),
        (message(place, pressure, model_version="9"), "NOT_FOUND", "is served, and not '9'"),
    )
    for request, code, reason in wrong:
        with pytest.raises(grpc.RpcError) as caught:
            asking.call(request)
        error: Any = caught.value
        assert (error.code().name, reason in error.details()) == (code, True), error.details()

    pid = stored_platform.serving.server.pid()
    assert pid
    os.kill(pid, signal.SIGKILL)

    def away() -> bool:
        with pytest.raises(grpc.RpcError) as caught:
            asking.call(message(place, pressure))
        error: Any = caught.value
        return (error.code().name, error.details()) == ("UNAVAILABLE", "the predictor cannot be reached")

    wait_until(away)
    stored_platform.serving.server.ensure_running()
    assert asking.call(message(place, pressure)).model_name == model


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
