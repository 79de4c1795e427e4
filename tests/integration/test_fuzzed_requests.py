"""Ten thousand requests that nobody should send: each is answered or refused, and the server is well after them."""

from __future__ import annotations

import copy
import gzip
import http.client
import json
import random
import socket
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from mlops_assets.serving.grpc_messages import SERVICE, pb
from tests.model_servers import ModelServer, model_server
from tests.support import post

if TYPE_CHECKING:
    from collections.abc import Iterator

OVER_HTTP, OVER_GRPC = 10_000, 2_000
SOUND: dict[str, dict[str, Any]] = {
    "/v1/models/m:predict": {"id": "a", "instances": [{"x": 1.5}, {"x": 2}]},
    "/v1/models/m:explain": {"instances": [{"x": 1.5}]},
    "/v1/models/m/feedback": {"labels": [{"id": "a", "row": 0, "label": 3.5, "time": "2026-11-18T12:00:00Z"}]},
    "/v2/models/m/infer": {
        "id": "a",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [1.5, 2]}],
        "outputs": [{"name": "prediction"}],
        "parameters": {"binary_data_output": True},
    },
}
ODD: list[Any] = [
    *(None, True, False, 0, -1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308, -0.0, 5e-324),
    *(
        float("nan"),
        float("inf"),
        "",
        "x",
        "NaN",
        "1e400",
        "\x00",
        "\ud800",
        "😀" * 50,
        "x" * 5_000,
        "../../etc/passwd",
    ),
    *(
        [],
        [[]],
        {},
        [None],
        [[1.5]],
        {"x": {"x": 1}},
        [1] * 1_000,
        {"": 1},
        {"__class__": "x"},
        [-1, 1],
        [2**40, 2**40],
    ),
    *(
        "FP64",
        "BYTES",
        "BOOL",
        "INT8",
        "fp32",
        [0, 1],
        [2],
        [1, 2, 1],
        {"binary_data_size": 8},
        {"binary_data_size": -1},
    ),
]
HEADERS: list[dict[str, str]] = [
    {},
    {"content-encoding": "gzip"},
    {"content-encoding": "br"},
    {"content-encoding": "gzip, gzip"},
    {"inference-header-content-length": "10"},
    {"inference-header-content-length": "-1"},
    {"inference-header-content-length": "9" * 30},
    {"inference-header-content-length": "x"},
    {"x-request-id": "\t" + "x" * 3_000},
    {"x-request-id": 'a\tb;c="d'},
    {"content-type": "text/plain"},
    {"content-type": "multipart/form-data; boundary=x"},
    {"accept": "image/png"},
    {"accept-encoding": "gzip;q=x"},
    {"expect": "200-ok"},
    {"te": "chunked"},
    {"origin": "http://evil.example"},
]
PATHS = [
    *(
        "/",
        "/v1",
        "/v1/models",
        "/v1/models/",
        "/v1/models/m",
        "/v1/models/m:",
        "/v1/models/m:predict/",
        "/v1/models//:predict",
    ),
    *(
        "/v1/models/%6d:predict",
        "/v1/models/x%0a%1b[31m:predict",
        "/v1/models/..%2f..:predict",
        "/v2/models/m/versions/1/infer",
    ),
    *(
        "/v2/models/m/versions/9/infer",
        "/v2/repository/models/m/unload",
        "/v2/repository/models/m/load",
        "/v2/repository/index",
    ),
    *(
        "/v2/models/m/infer?x=" + "y" * 3_000,
        "/metrics",
        "/openapi.json",
        "/v1/models/" + "m" * 5_000 + ":predict",
        "*",
    ),
]


def places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Each container of a body with each of its keys."""
    if isinstance(content, (dict, list)):
        for key in list(content) if isinstance(content, dict) else range(len(content)):
            yield content, key
            yield from places(content[key])


def odd(chance: random.Random) -> Any:
    """A value that does not belong where it is put."""
    return copy.deepcopy(chance.choice(ODD))


def spoiled(chance: random.Random, content: dict[str, Any]) -> bytes:
    """A body in which something is not as it should be."""
    content = json.loads(json.dumps(content))
    for _ in range(chance.choice((1, 1, 2, 4))):
        container, key = chance.choice([*places(content)] or [({}, "x")])
        match chance.randrange(5):
            case 0 if isinstance(container, dict):
                container.pop(key, None)
            case 1 if isinstance(container, dict):
                container[chance.choice(("x", "X", "y", "", "parameters", "id", "\x00"))] = odd(chance)
            case 2 if isinstance(container, list):
                container.extend(odd(chance) for _ in range(chance.choice((1, 50))))
            case _:
                container[key] = odd(chance)
    body = json.dumps(content).encode()
    match chance.randrange(14):
        case 0:
            return body[: chance.randrange(len(body))]
        case 1:
            return bytes(chance.randbytes(chance.choice((0, 1, 100, 70_000))))
        case 2:
            return body + chance.randbytes(8)
        case 3:
            place = chance.randrange(len(body))
            return body[:place] + chance.randbytes(2) + body[place + 2 :]
        case 4:
            return gzip.compress(body)
        case 5:
            return gzip.compress(b"[" * 3_000_000)[: chance.choice((None, 50))]
        case 6:
            deep = chance.choice((10, 2_000, 300_000))
            return b'{"instances": ' + b"[" * deep + b"]" * deep + b"}"
        case 7:
            return body.replace(b'"', b'"\xff', 1)
        case _:
            return body


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    with model_server(tmp_path_factory.mktemp("server"), "--max-body-mib", "1", explain=True) as found:
        yield found


def memory_mib(server: ModelServer) -> int:
    """What the server's process has in memory."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("VmRSS"))


def is_well(server: ModelServer) -> None:
    """Assert that it runs, and answers right."""
    assert server.process.poll() is None
    status, answer = post(f"{server.url}/v1/models/m:predict", {"instances": [{"x": 1.5}]})
    assert (status, answer["predictions"]) == (200, [3.0])


def test_http_requests_are_answered_or_refused(server: ModelServer) -> None:
    chance, found = random.Random(15), Counter[int]()
    is_well(server)
    before = memory_mib(server)
    # Callers that send half of a request and nothing more hold nobody up
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
    for each in slow:
        each.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n{")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    for number in range(OVER_HTTP):
        path, content = chance.choice([*SOUND.items()])
        asked = path if chance.random() < 0.95 else chance.choice(PATHS)
        method = "POST" if chance.random() < 0.97 else chance.choice(("GET", "PUT", "HEAD", "DELETE", "PATCH", "TRACE"))
        body, headers = spoiled(chance, content), chance.choice(HEADERS) if chance.random() < 0.3 else {}
        about = f"request {number}: {method} {asked[:80]} {headers} {body[:200]!r}"
        try:
            connection.request(method, asked, body, headers)
            answer = connection.getresponse()
            answer.read()
        except TimeoutError:
            pytest.fail(f"hangs: {about}")
        except (http.client.RemoteDisconnected, ConnectionError):
            connection.close()  # a server may close after it has refused
            found[0] += 1
            continue
        assert answer.status < 500, f"{answer.status} for {about}"
        found[answer.status] += 1
    for each in slow:
        each.close()
    connection.close()
    is_well(server)
    assert found[0] < OVER_HTTP / 100, found
    assert found[200] > OVER_HTTP / 100 and found[400] > OVER_HTTP / 10, found
    assert memory_mib(server) < before + 512


def test_grpc_requests_are_answered_or_refused(server: ModelServer) -> None:
    chance, found = random.Random(16), Counter[str]()
    fine = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED}
    fine |= {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.PERMISSION_DENIED}
    names = [method.name for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        for number in range(OVER_GRPC):
            request = pb.ModelInferRequest(model_name=chance.choice(("m", "m", "m", "x", "", "\n")), id="a")
            given = request.inputs.add(
                name=chance.choice(("x", "x", "y", "")),
                datatype=chance.choice(("FP32", "FP32", "FP64", "INT64", "BYTES", "BOOL", "", "x")),
                shape=chance.choice(([2, 1], [2, 1], [2], [], [-1, 1], [2**40, 2**40], [0, 1])),
            )
            match chance.randrange(4):
                case 0:
                    given.contents.fp32_contents.extend([1.5, float("nan")][: chance.randrange(3)])
                case 1:
                    request.raw_input_contents.append(chance.randbytes(chance.choice((0, 4, 8, 9, 1_000))))
                case 2:
                    given.contents.bytes_contents.append(chance.randbytes(20))
                case _:
                    given.contents.fp64_contents.extend([1e308, 2.0])
            content = request.SerializeToString()
            if chance.random() < 0.2:
                place = chance.randrange(len(content))
                content = content[:place] + chance.randbytes(3) + content[place + 1 :]
            method = "ModelInfer" if chance.random() < 0.9 else chance.choice(names)
            ask: Any = channel.unary_unary(f"/{SERVICE}/{method}")
            try:
                ask(content, timeout=20)
                found["answered"] += 1
            except grpc.RpcError as error:
                code: Any = error.code()  # pyright: ignore[reportAttributeAccessIssue]
                assert code in fine, f"{code} for request {number}: {method} {content[:200]!r}: {error}"
                found[code.name] += 1
    is_well(server)
    assert found["answered"] > 20 and found["INVALID_ARGUMENT"] > 200, found
