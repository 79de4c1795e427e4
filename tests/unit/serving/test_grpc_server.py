"""V2 over gRPC, asked by KServe's own client."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from mlops_assets.serving.grpc_messages import SERVICE, pb
from mlops_assets.serving.limits import Limits
from tests.model_servers import ModelServer, model_server

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

IMPATIENT = """
from mlops_assets.serving.limits import Limits
Limits.model_fields["body_s"].default = 1
Limits.model_rebuild(force=True)
"""
CLIENT = """
import asyncio, sys
sys.argv = ["client"]
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest
async def main(port):
    client = InferenceGRPCClient(f"127.0.0.1:{port}")
    assert await client.is_server_live() and await client.is_server_ready() and await client.is_model_ready("m")
    for binary in (False, True):
        given = InferInput("x", [2, 1], "FP32")
        given.set_data_from_numpy(np.array([[1.0], [2.5]], dtype=np.float32), binary_data=binary)
        answer = await client.infer(InferRequest("m", [given], request_id="mine"))
        print(answer.id, answer.model_version, answer.outputs[0].as_numpy().ravel().tolist())
    await client.close()
asyncio.run(main(PORT))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    with model_server(tmp_path_factory.mktemp("server"), "--max-body-mib", "1") as found:
        yield found


@pytest.fixture
def channel(server: ModelServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as found:
        yield found


def call(channel: grpc.Channel, method: str, request: Any) -> Any:
    kind = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name[method].output_type.name
    ask: Any = channel.unary_unary(
        f"/{SERVICE}/{method}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=getattr(pb, kind).FromString,
    )
    return ask(request, timeout=20)


def refused(channel: grpc.Channel, method: str, request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, method, request)
    error: Any = caught.value
    return error.code(), error.details()


def asked(*values: float, **more: Any) -> Any:
    request = pb.ModelInferRequest(model_name="m", **more)
    request.inputs.add(name="x", datatype="FP32", shape=[len(values), 1]).contents.fp32_contents.extend(values)
    return request


def test_kserves_client_is_answered_in_both_forms(server: ModelServer) -> None:
    program = CLIENT.replace("PORT", str(server.grpc_port))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["mine 1 [2.0, 5.0]"] * 2, done.stderr


def test_a_model_says_what_it_takes_and_gives(channel: grpc.Channel) -> None:
    found = call(channel, "ModelMetadata", pb.ModelMetadataRequest(name="m"))
    assert (found.name, list(found.versions)) == ("m", ["1"])
    assert [(t.name, t.datatype, list(t.shape)) for t in found.inputs] == [("x", "FP32", [-1, 1])]
    assert [(t.name, t.datatype, list(t.shape)) for t in found.outputs] == [("prediction", "FP32", [-1, 1])]


def test_a_request_without_an_id_is_given_one(channel: grpc.Channel) -> None:
    answer = call(channel, "ModelInfer", asked(3))
    assert len(answer.id) == 32
    assert list(answer.outputs[0].contents.fp32_contents) == [6]


def raw(data: bytes, datatype: str = "FP32", rows: int = 1) -> Any:
    request = pb.ModelInferRequest(model_name="m", raw_input_contents=[data])
    request.inputs.add(name="x", datatype=datatype, shape=[rows, 1])
    return request


WRONG: dict[str, tuple[Any, str]] = {
    "no column": (pb.ModelInferRequest(model_name="m"), "column x is missing"),
    "missing": (asked(float("nan")), "row 0 is missing, but the column may not be"),
    "infinite": (asked(float("inf")), "a number is too large for a float32"),
    "raw and missing": (raw(np.array([np.nan], "<f4").tobytes()), "row 0 is missing"),
    "half a number": (raw(b"123"), "3 bytes are no whole number of FP32"),
    "another type": (raw(b"1234", "BYTES"), "datatype is 'BYTES', but must be FP32"),
    "no type": (raw(b"1234", "FLOAT"), "datatype is 'FLOAT'"),
    "more raw inputs": (pb.ModelInferRequest(model_name="m", raw_input_contents=[b"", b""]), "0 inputs, but 2 raw"),
    "output": (asked(1, outputs=[{"name": "nope"}]), "there is no output nope"),
    "id": (asked(1, id="a b"), "the id is 'a b', but must be"),
}


@pytest.mark.parametrize(("request_", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_an_invalid_argument_with_its_reason(
    channel: grpc.Channel, request_: Any, message: str
) -> None:
    code, details = refused(channel, "ModelInfer", request_)
    assert (code, message in details) == (grpc.StatusCode.INVALID_ARGUMENT, True), details


def test_a_model_or_version_that_is_not_served_is_not_found(channel: grpc.Channel) -> None:
    for method, request in (
        ("ModelInfer", pb.ModelInferRequest(model_name="none")),
        ("ModelInfer", asked(1, model_version="2")),
        ("ModelReady", pb.ModelReadyRequest(name="none")),
        ("ModelMetadata", pb.ModelMetadataRequest(name="m", version="2")),
    ):
        assert refused(channel, method, request)[0] == grpc.StatusCode.NOT_FOUND


def test_no_caller_loads_or_unloads_a_model(channel: grpc.Channel) -> None:
    for method in ("Load", "Unload"):
        request = getattr(pb, f"RepositoryModel{method}Request")(model_name="m")
        assert refused(channel, f"RepositoryModel{method}", request)[0] == grpc.StatusCode.UNIMPLEMENTED
    assert call(channel, "ModelReady", pb.ModelReadyRequest(name="m")).ready


def test_a_large_request_is_answered_and_one_over_the_limit_is_not(channel: grpc.Channel) -> None:
    rows = 100_000
    answer = call(channel, "ModelInfer", raw(np.arange(rows, dtype="<f4").tobytes(), rows=rows))
    assert np.frombuffer(answer.raw_output_contents[0], "<f4")[-1] == 2 * (rows - 1)
    assert refused(channel, "ModelInfer", raw(b"\0" * (2 << 20)))[0] == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_requests_are_counted_with_those_over_http(channel: grpc.Channel, server: ModelServer) -> None:
    from urllib.request import urlopen

    call(channel, "ModelInfer", asked(1))
    refused(channel, "ModelInfer", pb.ModelInferRequest(model_name="m"))
    with urlopen(f"{server.url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert 'model_requests_total{code="200",model="m"}' in text
    assert 'model_requests_total{code="400",model="m"}' in text


def test_the_messages_are_those_that_kserve_has() -> None:
    both = "import sys; sys.argv = ['x']; import mlops_assets.serving.grpc_server, kserve"
    done = subprocess.run([sys.executable, "-c", both], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(pb.__file__).parts[-4:] == ("kserve", "protocol", "grpc", "grpc_predict_v2_pb2.py")


def test_metadata_that_are_no_ascii_are_no_fault_of_the_server(server: ModelServer) -> None:
    """grpc's own client refuses to send them; others do."""
    message = asked(2, id="mine").SerializeToString()
    body = b"\0" + len(message).to_bytes(4, "big") + message
    with begun(server, 1, **{"x-user": "Zoë €"}) as connection:
        connection.sendall(_frame(0, 1, 1, body))
        assert b"mine" in received(connection)


def test_of_messages_that_do_not_come_as_a_whole_only_so_many_are_held_and_not_for_ever(tmp_path: Path) -> None:
    """grpc itself keeps what has come of any number of them, as long as their callers like."""
    calls = Limits().held_bodies + 1
    half = b"\0" + (500_000).to_bytes(4, "big") + b"half"
    with model_server(tmp_path, lines=IMPATIENT) as server, begun(server, calls) as connection:
        for call_number in range(calls):
            connection.sendall(_frame(0, 0, 1 + 2 * call_number, half))
        found = received(connection)
        assert b"too many large requests are being answered" in found
        while found.count(b"the request has not come in time") < calls - 1:
            found += received(connection)
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            assert call(channel, "ModelInfer", asked(2)).outputs[0].contents.fp32_contents[:] == [4]


def test_a_call_without_a_message_is_told_so(server: ModelServer) -> None:
    with begun(server, 1) as connection:
        connection.sendall(_frame(0, 1, 1, b""))
        assert b"this is no message of the Open Inference Protocol" in received(connection)


@contextmanager
def begun(server: ModelServer, calls: int, **more: str) -> Generator[socket.socket]:
    """A connection on which so many calls of ModelInfer have begun; what they ask is still to come."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"/{SERVICE}/ModelInfer",
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
        **more,
    }
    block = b"".join(b"\0" + _sized(name) + _sized(value) for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", server.grpc_port), timeout=10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b""))
        for number in range(calls):
            connection.sendall(_frame(1, 4, 1 + 2 * number, block))
        yield connection


def received(connection: socket.socket) -> bytes:
    """What is answered, until a call has ended."""
    found = b""
    while b"grpc-message" not in found:
        found += connection.recv(4_096)
    return found


def _sized(text: str) -> bytes:
    content = text.encode()
    return bytes([len(content)]) + content


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content
