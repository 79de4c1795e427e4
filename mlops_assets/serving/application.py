"""What a server of requests over HTTP is, whatever it answers: each request gets one answer, and each error a reason.

Each request that is answered by an error has one line in the log, the others have none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol

from mlops_assets.serving.http_answers import BEGUN, Answer, refusal_of
from mlops_assets.serving.limits import LARGE_BODY
from mlops_assets.serving.log_lines import LONGEST_LINE
from mlops_assets.serving.request_body import Receive, RequestBody

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from contextlib import AbstractContextManager

    from mlops_assets.serving.http_answers import Begun
    from mlops_assets.serving.limits import Limits

Message = MutableMapping[str, Any]
Send = Callable[[Message], "Awaitable[None]"]
log = logging.getLogger("mlops_assets.serving")


class State(Protocol):
    """What a server reads and sets of its application: what a caller may cost, and whether it is about to stop."""

    limits: Limits
    draining: bool

    def answer_unread(self) -> AbstractContextManager[None]: ...


class Application:
    """An application of ASGI; what is asked is answered by `answer`."""

    def __init__(self, state: State) -> None:
        self.state = state

    async def answer(self, scope: Message, body: RequestBody) -> Answer:
        """The answer to a request.

        Raises:
            Exception: what `told` makes an answer of.
            ConnectionError: the caller has gone.
        """
        raise NotImplementedError

    def begun(self, scope: Message, body: bytes) -> Begun | None:
        """The answer to a small POST that has come as a whole; None where `answer` is to give it.

        Most requests are such, and asyncio's and ASGI's share of them takes longer than the rest.

        Raises:
            Exception: what `told` makes an answer of.
        """
        return None

    def at_once(self, scope: Message, body: bytes) -> Begun | None:
        """As `begun`, with errors told; where the answer is large, it is on its way."""
        who = described(scope)
        try:
            found = self.begun(scope, body)
        except Exception as error:
            return _told_error(error, who)
        return _given(found) if isinstance(found, Answer) and len(found.body) > LARGE_BODY else found

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        body, who = RequestBody(receive, waits=_waits(scope)), described(scope)
        try:
            answer = await told(scope.get(BEGUN) or self.answer(scope, body), who)
            if answer.code >= 400:
                await body.discard()
        except ConnectionError:
            return  # nobody waits for it
        headers = answer.all_headers
        if self.state.draining or body.waits:  # what is not asked for may come all the same
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.code, "headers": headers})
        if len(answer.body) <= LARGE_BODY:
            await send({"type": "http.response.body", "body": answer.body})
            return
        with self.state.answer_unread():
            await send({"type": "http.response.body", "body": answer.body, "more_body": True})
            await send({"type": "http.response.body", "body": b""})  # when the caller has read nearly all of it


async def told(asked: Awaitable[Answer], who: Callable[[], str]) -> Answer:
    """What is answered, also where that is an error, which is logged with `who` asked for what.

    Raises:
        ConnectionError: the caller has gone.
    """
    try:
        answer = await asked
    except ConnectionError:
        raise
    except Exception as error:
        return _told_error(error, who)
    if answer.code >= 400:
        _warn(answer, who)
    return answer


def _told_error(error: Exception, who: Callable[[], str]) -> Answer:
    answer = refusal_of(error)
    if answer.code == 500:
        log.error("%s: 500", who(), exc_info=error)
    else:
        _warn(answer, who)
    return answer


def _warn(answer: Answer, who: Callable[[], str]) -> None:
    log.warning("%s: %d %s", who(), answer.code, answer.body[:LONGEST_LINE].decode(errors="backslashreplace"))


async def _given(answer: Answer) -> Answer:
    return answer


def _waits(scope: Message) -> bool:
    """Whether the caller sends its body when it is told to, as curl does with a large one."""
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in scope["headers"])


def described(scope: Message) -> Callable[[], str]:
    """Who asked for what."""
    client = scope.get("client") or ("?",)
    return lambda: f"{client[0]} {scope['method'][:10]} {scope['path'][:200]}"
