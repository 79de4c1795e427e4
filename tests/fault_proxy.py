"""An HTTP proxy between a client and a real server, which spoils the requests that a test chooses."""

from __future__ import annotations

import http.client
import re
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlparse

if TYPE_CHECKING:
    from collections.abc import Generator

Fault = Literal["lose the request", "lose the answer", "break the body", "401", "403", "409", "503"]
CODES = {"401": "Unauthorized", "409": "ConditionalRequestConflict", "503": "SlowDown", "403": "InvalidObjectState"}
NOT_PASSED_ON = {"connection", "content-length", "date", "expect", "server", "transfer-encoding"}


@dataclass
class FaultProxy:
    """Spoils the next requests that fit the rules; `seen` has method and path of every request."""

    target: str
    url: str = ""
    seen: list[tuple[str, str]] = field(default_factory=list)
    rules: list[tuple[str, str, Fault]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def spoil(self, method: str, path: str, fault: Fault, times: int = 1) -> None:
        """Spoil the next `times` requests with this method whose path holds this pattern."""
        self.rules.extend((method, path, fault) for _ in range(times))

    def fault_of(self, method: str, path: str) -> Fault | None:
        """What is to be done to a request."""
        with self._lock:
            self.seen.append((method, path))
            found = next((rule for rule in self.rules if rule[0] == method and re.search(rule[1], path)), None)
            if found is not None:
                self.rules.remove(found)
            return found[2] if found else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def handle(self) -> None:
        with suppress(OSError):  # the client has gone, as it does after a fault
            super().handle()

    def __getattr__(self, name: str) -> object:
        if name.startswith("do_"):
            return self._pass_on
        raise AttributeError(name)

    def _pass_on(self) -> None:
        body = self._body()
        fault = self.proxy.fault_of(self.command, self.path)
        if fault == "lose the request":
            self._hang_up()
        elif fault in CODES:
            self._refuse(int(fault), CODES[fault])
        else:
            answer, content = self._ask(body)
            if fault == "lose the answer":
                self._hang_up()
                return
            self._give(answer, content, len(content) // 2 if fault == "break the body" else len(content))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while length := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(length)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return body

    def _ask(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        parts = urlparse(self.proxy.target)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in NOT_PASSED_ON}
        chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
        if chunked:  # what is signed is the form with chunks, which the server must see
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(len(body))
        connection.request(self.command, self.path, body=body, headers=headers, encode_chunked=chunked)
        answer = connection.getresponse()
        return answer, answer.read()

    def _give(self, answer: http.client.HTTPResponse, content: bytes, given: int) -> None:
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in NOT_PASSED_ON:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(content[:given])
        if given < len(content):
            self.wfile.flush()
            self._hang_up()

    def _refuse(self, status: int, code: str) -> None:
        content = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as asked</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(2)


@contextmanager
def fault_proxy(target: str) -> Generator[FaultProxy]:
    """A proxy in front of the server at `target`, while the block runs."""
    proxy = FaultProxy(target)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
