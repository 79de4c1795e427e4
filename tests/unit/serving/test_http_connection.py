"""How the server keeps and ends connections; what of uvicorn's is extended is still called where it was."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mlops_assets.serving.limits import Limits
from mlops_assets.serving.log_policy import InferenceLogPolicy
from tests.model_servers import ModelServer, model_server
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = b'{"instances": [{"x": 2}]}'
MANY_ROWS = 400_000
POST = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 25\r\n"
IMPATIENT = """
from mlops_assets.serving.limits import Limits
Limits.model_fields["header_s"].default = Limits.model_fields["body_s"].default = 3
Limits.model_fields["answer_s"].default = 3
Limits.model_rebuild(force=True)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """A server that waits three seconds for headers and bodies."""
    with model_server(tmp_path_factory.mktemp("server"), "--max-rows", str(MANY_ROWS), lines=IMPATIENT) as found:
        yield found


def connected(server: ModelServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


@pytest.mark.parametrize("sent", [b"", b"POST /v1/mod", POST, POST + b"\r\n", POST + b"\r\n" + BODY[:9]])
def test_a_connection_that_does_not_say_what_it_wants_is_closed(server: ModelServer, sent: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(sent)
        assert connection.recv(100) == b""


def test_a_caller_that_sends_a_byte_now_and_then_is_not_waited_for_for_ever(server: ModelServer) -> None:
    with connected(server) as connection:
        sent = 0
        try:
            for byte in POST:
                connection.sendall(bytes([byte]))
                sent += 1
                time.sleep(0.1)
        except OSError:
            pass
        assert 5 < sent < len(POST)


def test_a_connection_is_kept_between_requests_however_they_come(server: ModelServer) -> None:
    with connected(server) as connection:
        for parts in ((POST + b"\r\n" + BODY,), (POST, b"\r\n", BODY[:5], BODY[5:])):
            for part in parts:
                connection.sendall(part)
                time.sleep(0.1)
            assert b"HTTP/1.1 200 OK" in connection.recv(4_096)
            time.sleep(1.5)


def test_two_requests_in_one_packet_are_answered_in_turn(server: ModelServer) -> None:
    with connected(server) as connection:
        connection.sendall((POST + b"\r\n" + BODY) * 2)
        wait_until(lambda: connection.recv(8_192, socket.MSG_PEEK).count(b"HTTP/1.1 200 OK") == 2)


def request_of(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", "X-Request-Id: r-1", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


V2 = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [2]}]}'
BINARY = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}]}'
ASKED = {
    "V1": request_of("/v1/models/m:predict", BODY),
    "V2": request_of("/v2/models/m/infer", V2),
    "V2 of a version": request_of("/v2/models/m/versions/1/infer", V2),
    "binary": request_of(
        "/v2/models/m/infer", BINARY + b"\0\0\0\x40", f"Inference-Header-Content-Length: {len(BINARY)}"
    ),
    "packed": request_of("/v1/models/m:predict", gzip.compress(BODY, mtime=0), "Content-Encoding: gzip"),
    "a path with a question": request_of("/v2/models/m/infer?verbose=1", V2),
    "a path in other words": request_of("/v2/models/%6D/infer", V2),
    "no JSON": request_of("/v1/models/m:predict", b"{"),
    "nothing": request_of("/v1/models/m:predict", b""),
    "no such column": request_of("/v1/models/m:predict", b'{"instances": [{"y": 2}]}'),
    "no such model": request_of("/v1/models/n:predict", BODY),
    "no such route": request_of("/v1/models/m:guess", BODY),
    "another host": request_of("/v1/models/m:predict", BODY).replace(b"localhost", b"evil.example"),
    "another method": request_of("/v1/models/m:predict", BODY).replace(b"POST", b"PUT"),
    "the last one": request_of("/v1/models/m:predict", BODY, "Connection: close"),
    "HTTP/1.0": request_of("/v1/models/m:predict", BODY).replace(b"HTTP/1.1", b"HTTP/1.0"),
}


def answered(connection: socket.socket) -> tuple[bytes, set[bytes], bytes]:
    """Status, headers and body of an answer."""
    found = b""
    while b"\r\n\r\n" not in found:
        found += connection.recv(65_536)
    head, body = found.split(b"\r\n\r\n", 1)
    status, *headers = head.split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in headers if line.startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(65_536)
    assert len(body) == length
    return status, set(headers), body


@pytest.mark.parametrize("asked", ASKED)
def test_a_request_is_answered_alike_whether_it_comes_as_a_whole_or_in_parts(server: ModelServer, asked: str) -> None:
    request = ASKED[asked]
    with connected(server) as connection:
        connection.sendall(request)
        whole = answered(connection)
    with connected(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for begin in range(0, len(request), 60):
            connection.sendall(request[begin : begin + 60])
            time.sleep(0.02)
        assert answered(connection) == whole


def test_requests_of_all_kinds_in_one_packet_are_answered_in_turn(server: ModelServer) -> None:
    kinds = ["V1", "packed", "no JSON", "V2", "another method", "binary", "no such route", "V1"]
    with connected(server) as connection:
        connection.sendall(b"".join(ASKED[kind] for kind in kinds))
        wanted = [b"200", b"200", b"400", b"200", b"405", b"200", b"404", b"200"]
        found = b""
        while found.count(b"HTTP/1.1 ") < len(kinds):
            found += connection.recv(65_536)
    assert re.findall(rb"HTTP/1\.1 (\d+)", found) == wanted


def test_what_becomes_no_http_is_refused_once_and_asked_of_nobody(server: ModelServer) -> None:
    with connected(server) as connection:
        connection.sendall(CHUNKED + b"19\r\n" + BODY + b"\r\nno length\r\n")
        found = b""
        while part := connection.recv(65_536):
            found += part
    assert found.count(b"HTTP/1.1 ") == 1
    assert found.startswith(b"HTTP/1.1 400")


def test_a_small_request_may_have_a_large_answer(server: ModelServer) -> None:
    rows = 15_000
    tensor = {"name": "x", "datatype": "FP32", "shape": [rows], "parameters": {"binary_data_size": 4 * rows}}
    head = json.dumps({"inputs": [tensor]}).encode()
    body = head + b"\x9a\x99\x99\x3f" * rows
    with connected(server) as connection:
        connection.sendall(request_of("/v2/models/m/infer", body, f"Inference-Header-Content-Length: {len(head)}"))
        status, _, answer = answered(connection)
    assert (status, len(json.loads(answer)["outputs"][0]["data"])) == (b"HTTP/1.1 200 OK", rows)
    assert len(answer) > 100_000


def test_a_body_that_is_refused_before_it_has_come_does_not_disturb_the_next_request(server: ModelServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/v1/models/m:predict", b" " * (9 << 20))
    with connection.getresponse() as answer:
        assert (answer.status, json.load(answer)) == (413, {"error": "the body is larger than 8 MiB"})
    connection.request("POST", "/v1/models/m:predict", BODY)
    with connection.getresponse() as answer:
        assert answer.status == 200


def test_no_answer_tells_what_the_server_is_made_of(server: ModelServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/")
    with connection.getresponse() as answer:
        assert "server" not in {name.lower() for name, _ in answer.getheaders()}


def test_uvicorn_still_calls_what_is_extended() -> None:
    extended = {"on_message_begin", "on_headers_complete", "on_body", "on_message_complete", "send_400_response"}
    extended |= {"pause_writing", "resume_writing", "on_response_complete", "eof_received"}
    assert extended <= vars(HttpToolsProtocol).keys()


def test_a_caller_that_will_close_the_connection_gets_the_reason_for_a_body_that_is_too_large(
    server: ModelServer,
) -> None:
    """As urllib does: an answer before the end of the body, and a connection that is reset, would be lost."""
    request = urllib.request.Request(f"{server.url}/v1/models/m:predict", b" " * (40 << 20))
    for _ in range(3):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=30)
        assert caught.value.code == 413


CHUNKED = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
FLOODS = {
    "headers": (b"POST / HTTP/1.1\r\n", b"a: b\r\n" * 10_000),
    "one header": (b"POST / HTTP/1.1\r\na: ", b"b" * 60_000),
    "trailers": (CHUNKED + b"19\r\n" + BODY + b"\r\n0\r\n", b"a: b\r\n" * 10_000),
    "chunk extensions": (CHUNKED + b"19;", b"a=b;" * 10_000),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_headers_without_an_end_are_not_kept(server: ModelServer, flood: str) -> None:
    begin, more = FLOODS[flood]
    sent = 0
    with connected(server) as connection:
        connection.sendall(begin)
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            for _ in range(1_000):
                connection.sendall(more)
                sent += len(more)
                time.sleep(0.002)
    assert sent < 8 << 20


def test_who_sends_large_headers_is_told_so(server: ModelServer) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\na: " + b"b" * (70 << 10))
        assert b"The headers are larger than 64 KiB." in connection.recv(4_096)


@pytest.mark.parametrize("size", [60 << 10, 66 << 10, 100 << 10, 200 << 10])
def test_headers_have_the_same_limit_however_they_come(server: ModelServer, size: int) -> None:
    head = POST + b"a: " + b"b" * size + b"\r\n\r\n"
    for parts in ((head + BODY,), (head, BODY), (head[:30], head[30:] + BODY), (head[: size // 2], head[size // 2 :])):
        with connected(server) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for part in parts:
                connection.sendall(part)
                time.sleep(0.05)
            connection.sendall(b"" if parts[-1].endswith(BODY) else BODY)
            status, _, answer = answered(connection)
        if size < 64 << 10:
            assert status == b"HTTP/1.1 200 OK"
        else:
            assert (status, answer) == (
                b"HTTP/1.1 400 Bad Request",
                b'{"error":"The headers are larger than 64 KiB."}',
            )


SLOW = request_of("/v1/models/m:predict", b'{"instances": [' + b",".join([b'{"x": 2}'] * 100_000) + b"]}")
NO_HTTP = {
    "a line": b"no HTTP at all\r\n\r\n",
    "a body in chunks": CHUNKED + b"5\r\n" + BODY[:5] + b"\r\nno length\r\n",
    "large headers": POST + b"a: " + b"b" * (300 << 10),
}


@pytest.mark.parametrize("no_http", NO_HTTP)
@pytest.mark.parametrize("asked", [SLOW, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"], ids=["large", "small"])
def test_what_was_asked_before_what_is_no_http_is_answered(server: ModelServer, asked: bytes, no_http: str) -> None:
    before = server.log.read_bytes()
    with connected(server) as connection:
        connection.sendall(asked + NO_HTTP[no_http])
        found = connection.makefile("rb").read()
    assert re.findall(rb"HTTP/1\.1 (\d+)", found) == [b"200", b"400"]
    assert b"Traceback" not in server.log.read_bytes()[len(before) :]


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_who_sends_no_more_is_answered(server: ModelServer, asked: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(asked)
        connection.shutdown(socket.SHUT_WR)
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 ")


def test_two_who_send_no_more_are_answered_in_turn(server: ModelServer) -> None:
    with connected(server) as connection:
        connection.sendall(SLOW + ASKED["V1"] + ASKED["no JSON"])
        connection.shutdown(socket.SHUT_WR)
        found = connection.makefile("rb").read()
    assert re.findall(rb"HTTP/1\.1 (\d+)", found) == [b"200", b"200", b"400"]


@pytest.mark.parametrize(
    "begin", [b"GET / HTTP/1.1\r\nHost: localhost\r\na: ", b"no HTTP at all\r\n", CHUNKED + b"no length"]
)
def test_who_is_refused_can_send_all_and_then_read_why(server: ModelServer, begin: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(begin)
        for _ in range(10):
            connection.sendall(b"b" * 60_000)
            time.sleep(0.02)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.count(b"HTTP/1.1") == 1, "the request that has not come as a whole is not answered too"


def test_who_is_refused_and_does_not_leave_is_closed(server: ModelServer) -> None:
    with connected(server) as connection:
        connection.sendall(b"no HTTP at all\r\n")
        assert b"400 Bad Request" in connection.makefile("rb").read()
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            for _ in range(1_000):
                connection.sendall(b"b")
                time.sleep(0.01)


def test_a_body_that_comes_byte_by_byte_is_read(server: ModelServer) -> None:
    body = BODY.ljust(100_000)
    with connected(server) as connection:
        connection.sendall(CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
        assert b"HTTP/1.1 200 OK" in connection.recv(4_096)


def test_what_follows_a_body_in_chunks_is_no_header(server: ModelServer) -> None:
    """Else it would pass by a proxy that has checked the headers."""
    with connected(server) as connection:
        connection.sendall(CHUNKED + b"19\r\n" + BODY + b"\r\n0\r\nX-Request-Id: forged\r\n\r\n")
        answer = connection.recv(4_096)
    assert b"HTTP/1.1 200 OK" in answer
    assert b"forged" not in answer


@pytest.fixture(scope="module")
def logging_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """A server that takes labels."""
    folder = tmp_path_factory.mktemp("logging")
    options = ("--lake-uri", str(folder / "lake"), "--max-rows", str(MANY_ROWS))
    with model_server(folder, *options, policy=InferenceLogPolicy()) as found:
        yield found


FEEDBACK = "/v1/models/m/feedback"


def test_labels_come_packed_too(logging_server: ModelServer) -> None:
    labels = json.dumps({"labels": [{"id": f"request-{number}", "label": 1} for number in range(5_000)]}).encode()
    for body, encoding, code in ((labels, "identity", 200), (gzip.compress(labels), "gzip", 200), (labels, "br", 415)):
        connection = http.client.HTTPConnection("127.0.0.1", logging_server.port, timeout=30)
        connection.request("POST", FEEDBACK, body, {"Content-Encoding": encoding})
        with connection.getresponse() as answer:
            assert (answer.status, json.load(answer).get("stored")) == (code, 5_000 if code == 200 else None)


def test_of_large_bodies_of_labels_only_so_many_are_held(logging_server: ModelServer) -> None:
    head = f"POST {FEEDBACK} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n".encode()
    held = [connected(logging_server) for _ in range(Limits().held_bodies)]
    try:
        for connection in held:
            connection.sendall(head + b" " * 3_000_000)
        with connected(logging_server) as connection:
            connection.sendall(head + b" " * 4_000_000)
            assert b"HTTP/1.1 503" in connection.recv(4_096)
    finally:
        for connection in held:
            connection.close()


def test_a_body_that_is_refused_anyway_is_not_asked_for(server: ModelServer) -> None:
    expecting = b"Host: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    with connected(server) as connection:
        connection.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\n" + expecting % (90 << 20))
        answer = connection.recv(4_096)
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in answer
    with connected(server) as connection:
        connection.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\n" + expecting % len(BODY))
        assert connection.recv(4_096).startswith(b"HTTP/1.1 100")
        connection.sendall(BODY)
        assert connection.recv(4_096).startswith(b"HTTP/1.1 200")


def asked_for_much(server: ModelServer) -> socket.socket:
    """A caller that has asked for more than the kernel takes off the server, and reads none of it."""
    rows = MANY_ROWS
    tensor = {"name": "x", "datatype": "FP32", "shape": [rows], "parameters": {"binary_data_size": 4 * rows}}
    head = json.dumps({"inputs": [tensor]}).encode()
    body = head + b"\x9a\x99\x99\x3f" * rows
    about = b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n" % (len(head), len(body))
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost\r\n" + about + body)
    return connection


def test_of_large_answers_that_are_not_read_only_so_many_are_held(logging_server: ModelServer) -> None:
    idle = list[socket.socket]()
    try:
        for _ in range(Limits().held_bodies):
            idle.append(asked_for_much(logging_server))
            assert idle[-1].recv(12) == b"HTTP/1.1 200"
        with asked_for_much(logging_server) as connection:
            assert connection.recv(12) == b"HTTP/1.1 503"
    finally:
        for connection in idle:
            connection.close()


def test_an_answer_that_is_not_read_is_not_held_for_ever(server: ModelServer) -> None:
    def sockets() -> set[str]:
        command = ["ls", "-l", f"/proc/{server.process.pid}/fd"]
        listed = subprocess.run(command, capture_output=True, text=True, check=False)
        return set(re.findall(r"socket:\[\d+\]", listed.stdout))

    before = sockets()
    with asked_for_much(server) as connection:
        assert connection.recv(12) == b"HTTP/1.1 200"
        opened = sockets() - before
        assert len(opened) == 1
        wait_until(lambda: not opened & sockets())


def test_a_caller_that_offers_http_2_is_answered_by_http_1(server: ModelServer) -> None:
    """As Java's HttpClient does, also with a body; httptools takes what follows such headers for another protocol."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQBAAAAAAIAAAAA\r\n"
    with connected(server) as connection:
        for sent in ((POST + offer + b"\r\n" + BODY,), (POST + offer, b"\r\n", BODY[:5], BODY[5:])):
            for part in sent:
                connection.sendall(part)
                time.sleep(0.05)
            assert connection.recv(4_096).startswith(b"HTTP/1.1 200 OK")


def test_offers_one_after_the_other_are_answered_each(server: ModelServer) -> None:
    offer = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    with connected(server) as connection:
        connection.sendall(offer * 2_000)
        found = b""
        while found.count(b'{"status":"alive"}') < 2_000:
            found += connection.recv(1 << 20)
    with connected(server) as connection:
        connection.sendall(b"CONNECT / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(4_096).startswith(b"HTTP/1.1 400")
