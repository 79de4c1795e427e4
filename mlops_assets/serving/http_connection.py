"""A connection of HTTP/1.1, as uvicorn has it, where it is extended; a contract test holds what that rests on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from mlops_assets.serving.http_answers import BEGUN, Answer, refusal

if TYPE_CHECKING:
    import asyncio

    import uvicorn
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from mlops_assets.serving.application import Application

HEAD_BYTES = 64 << 10  # the most of a request's line and headers
PLAIN_PATH = re.compile(rb"/[A-Za-z0-9_.:/~-]*")
LINGER_S, LINGER_BYTES = 2, 1 << 20  # what a refused caller still sends is read for so long, and no more of it
FRAMED = 8  # so many bytes may say of what length a byte of a body is, as where each is a chunk of its own


class Http1Parser(httptools.HttpRequestParser):
    """Reads a request that offers another protocol as one of HTTP/1.1, as a server may. Java's HttpClient offers HTTP/2
    with each first request; httptools would take its body for that protocol.
    """

    def __init__(self, connection: HttpToolsProtocol) -> None:
        super().__init__(connection)
        self._connection = connection
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

    def feed_data(self, data: Any) -> None:
        """Parse; what follows the headers of an offer is parsed behind them, without it."""
        parser, rest = self, memoryview(data)
        while rest:
            try:
                super(Http1Parser, parser).feed_data(rest)
                return
            except httptools.HttpParserUpgrade as offer:
                head = _without_offer(parser, self._connection)
                self._connection.parser = parser = Http1Parser(self._connection)
                super(Http1Parser, parser).feed_data(head)
                rest = rest[offer.args[0] :]


def _without_offer(parser: Http1Parser, connection: HttpToolsProtocol) -> bytes:
    """The line and the headers of the request that has come, without the offer of another protocol."""
    method, version = parser.get_method(), parser.get_http_version().encode()
    if method == b"CONNECT":
        raise httptools.HttpParserError("this is no proxy")
    lines = [b"%s %s HTTP/%s" % (method, connection.url, version)]
    for name, value in connection.headers:
        if name == b"connection":
            lines.append(b"connection: close" if b"close" in value.lower() else b"connection: keep-alive")
        elif name not in (b"upgrade", b"http2-settings"):
            lines.append(b"%s: %s" % (name, value))
    return b"\r\n".join([*lines, b"", b""])


def _written(code: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    return b"".join((STATUS_LINE[code], *[b"%s: %s\r\n" % header for header in headers], b"\r\n", body))


class Connection(HttpToolsProtocol):
    """Closes a connection whose request takes too long to come, whose headers do not end, or whose answer is not
    read; uvicorn waits for ever, and keeps what has come and what is to go.

    A request that comes as a whole, as nearly all do, needs no timer. Such a POST is first offered to the
    application as it is, which may answer at once; all others go the way of ASGI, as tasks.
    """

    _awaited_s: float | None = None
    _timer: asyncio.TimerHandle | None = None
    _timed: float | None = None
    _reader: asyncio.TimerHandle | None = None
    _whole: list[bytes] | None = None  # the body of a request that is to come as a whole
    _first = False  # of the requests that come together one is answered at once: others are not to wait for long
    _lingering: int | None = None  # bytes that may still come from a caller who is refused
    _refusal: Answer | None = None  # what such a caller is told when all that it asked before is answered
    _ended = False  # the caller sends no more, and waits for its answer
    _framing, _in_body = 0, 0  # bytes of the request that has not come as a whole, which are not of its body or are

    def __init__(self, config: uvicorn.Config, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        self.parser = Http1Parser(self)
        self._application = cast("Application", config.app)
        self._limits = self._application.state.limits

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._awaited_s = self._limits.header_s
        self._set_timer()

    def data_received(self, data: bytes) -> None:
        if self._lingering is not None:
            self._lingering -= len(data)
            if self._lingering < 0:
                self.transport.close()
            return
        self._framing, self._first = self._framing + len(data), True
        super().data_received(data)
        if self._lingering is not None or self.transport.is_closing():
            return  # what has come was no HTTP
        if self._whole is not None:
            self._go_on()
        if self._framing > HEAD_BYTES + FRAMED * self._in_body:
            self._refuse_headers()
        if self._awaited_s != self._timed:
            self._set_timer()

    def on_message_begin(self) -> None:
        self._awaited_s = self._limits.header_s
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._awaited_s = self._limits.body_s
        if self.parser.should_upgrade():
            return  # they come again without that
        if self._framing > HEAD_BYTES and self._head_bytes() > HEAD_BYTES:
            self._refuse_headers()
            raise httptools.HttpParserError
        if self._first and self._may_be_answered_at_once():
            self._first, self._whole = False, []
        else:
            super().on_headers_complete()
        self.headers = []  # what follows a body in chunks is no header: it would pass by who has checked these

    def on_body(self, body: bytes) -> None:
        self._framing -= len(body)
        self._in_body += len(body)
        if self._whole is None:
            super().on_body(body)
        else:
            self._whole.append(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._awaited_s, self._framing, self._in_body = None, 0, 0
        if self._whole is not None:
            scope = cast("dict[str, Any]", self.scope)
            scope["method"], scope["path"] = "POST", self.url.decode()
            found = self._application.at_once(scope, b"".join(self._whole))
            if isinstance(found, Answer):
                self._whole = None
                self._answer(found)
                return
            if found is not None:
                scope[BEGUN] = found
            self._go_on()
        super().on_message_complete()

    def eof_received(self) -> Any:
        """Whether the connection is kept: that of a caller who sends no more is until what has come is answered."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        self._ended = cycle is not None and not (cycle.response_complete or cycle.more_body)
        return self._ended

    def on_response_complete(self) -> None:
        last = not self.pipeline
        super().on_response_complete()
        if last and self._refusal is not None:
            self._refuse(self._refusal)
        if last and self._ended:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._awaited_s = None
        self._set_timer()
        if self._reader:
            self._reader.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reader = self.loop.call_later(self._limits.answer_s, self.transport.abort)

    def resume_writing(self) -> None:
        if self._reader:
            self._reader.cancel()
        super().resume_writing()

    def _may_be_answered_at_once(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return (
            self.parser.get_method() == b"POST"
            and PLAIN_PATH.fullmatch(self.url) is not None
            and not self.expect_100_continue
            and (cycle is None or cycle.response_complete)
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and not (self.flow.write_paused or self.transport.is_closing())
        )

    def _go_on(self) -> None:
        """Begin with a request as uvicorn does, with what has come of its body."""
        assert self._whole is not None
        body, self._whole = b"".join(self._whole), None
        super().on_headers_complete()
        super().on_body(body)

    def _answer(self, answer: Answer) -> None:
        headers = answer.all_headers
        if self._application.state.draining:
            headers.append((b"connection", b"close"))
        self.transport.write(_written(answer.code, headers, answer.body))
        if self._application.state.draining:
            self.transport.close()
        super().on_response_complete()

    def _head_bytes(self) -> int:
        line = b"%s %s HTTP/1.1\r\n\r\n" % (self.parser.get_method(), self.url)
        return len(line) + sum(len(b": \r\n") + len(name) + len(value) for name, value in self.headers)

    def _refuse_headers(self) -> None:
        self.send_400_response(f"The headers are larger than {HEAD_BYTES >> 10} KiB.")

    def send_400_response(self, msg: str) -> None:
        """Refuse what has come, when all that was asked before is answered, and throw away what still comes."""
        if self._lingering is not None:
            return  # it is refused already
        self._lingering, self._whole, self._awaited_s = LINGER_BYTES, None, None
        self._set_timer()
        refused = refusal(400, msg, [(b"connection", b"close")])
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is None or cycle.response_complete:
            self._refuse(refused)
        elif not cycle.more_body:
            self._refusal = refused
        else:  # it is the request whose body was to come
            cycle.disconnected = True
            cycle.message_event.set()
            if self.pipeline:
                self.pipeline.popleft()
                self._refusal = refused
            else:
                self._refuse(refused)

    def _refuse(self, refused: Answer) -> None:
        """Tell a caller so; a connection that is closed before all was read is reset, and then many a caller never
        sees why.
        """
        if self.transport.is_closing():
            return
        self.transport.write(_written(refused.code, refused.all_headers, refused.body))
        self.transport.write_eof()
        self._awaited_s = LINGER_S
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timed = self._awaited_s
        self._timer = self.loop.call_later(self._timed, self.transport.close) if self._timed else None
