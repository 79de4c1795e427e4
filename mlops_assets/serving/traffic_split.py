"""Shares a model's live requests between the champion, which this server has, and a candidate, which another one has.

A copy goes to the candidate when the caller has its answer: it waits for nothing. A request that is handed over is
answered by the champion when the candidate fails, refuses it or is late, so that no caller sees its fault. Whatever
protocol it came in, it is one over HTTP here, not packed.
"""

from __future__ import annotations

import asyncio
import io
import logging
import re
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import orjson

from mlops_assets.ml.errors import BadRequest, ServerBusy
from mlops_assets.serving.answers_compared import compared, scores_of
from mlops_assets.serving.http_answers import (
    CANARY,
    CONTENT_TYPE,
    JSON,
    JSON_LENGTH,
    MIRROR,
    REQUEST_ID,
    ROLE,
    TIMING,
    VERSION,
    Answer,
    json_bytes_of,
    reason_of,
)
from mlops_assets.serving.inference_protocol import new_request_id, request_id_of
from mlops_assets.serving.limits import LARGE_BODY
from mlops_assets.serving.traffic import (
    BOUNDS_MS,
    KEYS,
    NOTHING_SEEN,
    SAMPLED,
    Observed,
    Sampled,
    bound_of,
    bucket_of,
    lies_within,
    sampled,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mlops_assets.serving.http_answers import Headers, HttpRequest
    from mlops_assets.serving.traffic import Traffic

QUEUED, QUEUED_BYTES, SENDERS = 100, 16 << 20, 4
MIB = 1 << 20
log = logging.getLogger("mlops_assets.serving")
DURATION = re.compile(rb"graph;dur=([0-9]{1,9}(?:\.[0-9]{1,9})?)\b")


class Copy(NamedTuple):
    """A request that the candidate is to answer too, and what the champion answered."""

    request: HttpRequest
    answer: Answer

    @property
    def size(self) -> int:
        """The bytes that it holds."""
        return len(self.request.body) + len(self.answer.body)


class Timed(NamedTuple):
    """An answer, and the seconds that the graph's server took for it."""

    answer: Answer
    seconds: float


class _CandidateFailed(Exception):
    """Why the candidate did not answer."""


class TrafficSplit:
    """The split of one model while one `Traffic` is in force; `before` is how its requests came until then."""

    def __init__(self, traffic: Traffic, session: aiohttp.ClientSession, before: Observed = NOTHING_SEEN) -> None:
        self.traffic, self.candidate, self._session = traffic, traffic.candidate, session
        self._header = traffic.header.encode() if traffic.header else None
        self._queue, self._held_bytes = asyncio.Queue[Copy](QUEUED), 0
        self._sending_large = asyncio.Lock()
        self._senders = [asyncio.create_task(self._send_copies()) for _ in range(SENDERS)]
        self._counts = dict[str, Any](asked=0, failed=0, handed=0, handed_failed=0, mirrored=0, mirrored_failed=0)
        self._counts |= {"dropped": 0, "rows": 0, "changed": 0}
        self._before, self._keys = before, [0] * KEYS
        self._champion_ms, self._candidate_ms = [0] * len(BOUNDS_MS), [0] * len(BOUNDS_MS)
        self._reasons, self._sample = dict[str, int](), list[Sampled]()

    async def answered(self, request: HttpRequest, own: Callable[[], Awaitable[Timed]]) -> Answer:
        """The answer to a request `with_id`, by the candidate where it is of its share, else by `own`, the champion's.

        Raises:
            BadRequest: the champion refuses it.
            ServerBusy: it has no room for it.
        """
        failure, key = None, self._key(request.headers, request.headers[REQUEST_ID])
        if self.hands_over(request):
            try:
                answer = await self._handed_over(request)
            except _CandidateFailed as error:
                failure = str(error)
            else:
                self._keys[bucket_of(key)] += 1
                return answer
        try:
            found = await own()
        except Exception as error:
            self._count_failed(error)
            raise
        self._count(found, key)
        if failure:
            self._counts["handed"] += 1
            self._counts["handed_failed"] += 1
            self._note(failure)
        elif lies_within(self.candidate.mirrored, key, "mirror"):
            self._keep(Copy(request, found.answer))
        return found.answer

    def answered_here(self, request: HttpRequest, own: Callable[[], Timed]) -> Answer:
        """As `answered`, of a request that is not handed over and need not wait; it has the id of its answer.

        Raises:
            BadRequest: the champion refuses it.
        """
        try:
            found = own()
        except Exception as error:
            self._count_failed(error)
            raise
        request_id = dict(found.answer.headers)[REQUEST_ID]
        key = self._key(request.headers, request_id)
        self._count(found, key)
        if lies_within(self.candidate.mirrored, key, "mirror"):
            self._keep(Copy(_named(request, request_id), found.answer))
        return found.answer

    def hands_over(self, request: HttpRequest) -> bool:
        """Whether a request `with_id` is of the candidate's share."""
        return lies_within(self.candidate.handed, self._key(request.headers, request.headers[REQUEST_ID]), "canary")

    def _key(self, headers: Headers, request_id: bytes) -> str:
        return ((self._header and headers.get(self._header)) or request_id).decode("latin-1")

    def _count_failed(self, error: Exception) -> None:
        if isinstance(error, BadRequest | ServerBusy):
            return  # held against nobody, also where the candidate said so
        self._counts["asked"] += 1
        self._counts["failed"] += 1

    def _count(self, found: Timed, key: str) -> None:
        self._counts["asked"] += 1
        self._keys[bucket_of(key)] += 1
        self._champion_ms[bound_of(found.seconds)] += 1

    async def _handed_over(self, request: HttpRequest) -> Answer:
        code, content, received = await self._asked(request, CANARY)
        if code != 200:
            raise _CandidateFailed(f"it answers {code}: {reason_of(content)[:200]}")
        self._counts["handed"] += 1
        self._candidate_time(received)
        named = [(name, received[name]) for name in (VERSION, REQUEST_ID, JSON_LENGTH) if name in received]
        return Answer(200, content, received.get(CONTENT_TYPE, JSON), named)

    async def _asked(self, request: HttpRequest, role: bytes) -> tuple[int, bytes, Headers]:
        """What the candidate answers: status, body and headers. A body has the deadline anew for each MiB.

        Raises:
            _CandidateFailed: nothing, in time.
        """
        path, body, headers = request
        passed = {name: headers[name] for name in (CONTENT_TYPE, JSON_LENGTH, REQUEST_ID) if name in headers}
        sent = {name.decode(): value.decode("latin-1") for name, value in (passed | {ROLE: role}).items()}
        deadline_s = self.traffic.deadline_s * (1 + len(body) // MIB)
        try:
            async with self._session.post(
                f"{self.candidate.url}{path}",
                data=body if len(body) <= LARGE_BODY else io.BytesIO(body),  # which is sent piece by piece
                headers=sent,
                allow_redirects=False,  # what callers have sent goes to the candidate, and nowhere else
                timeout=aiohttp.ClientTimeout(total=deadline_s),
            ) as response:
                return response.status, await response.read(), _headers_of(response)
        except TimeoutError:
            raise _CandidateFailed(f"it does not answer within {deadline_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _CandidateFailed(f"it does not answer: {type(error).__name__}") from None

    def _keep(self, copy: Copy) -> None:
        """Put a copy into the queue; what is on its way counts as what waits."""
        if self._queue.full() or self._held_bytes + copy.size > QUEUED_BYTES:
            self._counts["dropped"] += 1
            return
        self._held_bytes += copy.size
        self._queue.put_nowait(copy)

    async def _send_copies(self) -> None:
        while True:
            copy = await self._queue.get()
            try:
                # Of large ones one at a time: the candidate answers those of other servers, too
                async with self._sending_large if copy.size > LARGE_BODY else nullcontext():
                    await self._send(copy)
            except _CandidateFailed as failure:
                self._counts["mirrored_failed"] += 1
                self._note(str(failure))
            except Exception as error:  # the next copies are to be sent all the same
                log.exception("a copy for version %s cannot be compared", self.candidate.version)
                self._counts["mirrored_failed"] += 1
                self._note(f"its answer cannot be compared: {type(error).__name__}")
            self._counts["mirrored"] += 1
            self._held_bytes -= copy.size

    async def _send(self, copy: Copy) -> None:
        code, content, received = await self._asked(copy.request, MIRROR)
        if code != 200:
            raise _CandidateFailed(f"it answers {code}: {reason_of(content)[:200]}")
        self._candidate_time(received)
        try:
            if copy.size > LARGE_BODY:
                found = await asyncio.to_thread(_compared, copy.answer, content, received)
            else:
                found = _compared(copy.answer, content, received)
        except ValueError as error:
            raise _CandidateFailed(str(error)) from error
        self._counts["rows"] += found.rows
        self._counts["changed"] += found.changed
        self._sample += found.sample
        if len(self._sample) > 2 * SAMPLED:
            self._sample = [*sampled(self._sample)]

    def _candidate_time(self, received: Headers) -> None:
        if found := DURATION.search(received.get(TIMING, b"")):
            self._candidate_ms[bound_of(float(found[1]) / 1e3)] += 1

    def _note(self, reason: str) -> None:
        if reason in self._reasons or len(self._reasons) < 5:
            self._reasons[reason] = self._reasons.get(reason, 0) + 1

    @property
    def observed(self) -> Observed:
        """What was seen up to now."""
        return Observed(
            **self._counts,
            asked_before=self._before.asked_before,
            idle_s=self._before.idle_s,
            keys=tuple(self._keys),
            champion_ms=tuple(self._champion_ms),
            candidate_ms=tuple(self._candidate_ms),
            reasons=self._reasons,
            sample=sampled(self._sample),
        )

    def end(self) -> None:
        """Send no more copies."""
        for sender in self._senders:
            sender.cancel()


def with_id(request: HttpRequest) -> HttpRequest:
    """A request with the id by which it is dealt out: its own, that of its header, or a new one.

    Raises:
        BadRequest: its id is none.
    """
    given = request.headers.get(REQUEST_ID, b"").decode("latin-1")
    request_id = request_id_of(_id_in(request)) or request_id_of(given) or new_request_id()
    return _named(request, request_id.encode())


def _named(request: HttpRequest, request_id: bytes) -> HttpRequest:
    return request._replace(headers={**request.headers, REQUEST_ID: request_id})


def _id_in(request: HttpRequest) -> str | None:
    """The id that a request's JSON has."""
    content = request.body[: request.json_bytes]
    if b'"id"' not in content:
        return None
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    given = found.get("id") if isinstance(found, dict) else None
    return given if isinstance(given, str) else None


def _headers_of(response: aiohttp.ClientResponse) -> Headers:
    return {name.lower(): value for name, value in response.raw_headers}


def _compared(champion: Answer, content: bytes, received: Headers) -> Observed:
    try:
        json_bytes = json_bytes_of(received, len(content))
    except BadRequest as error:
        raise ValueError(str(error)) from error
    return compared(scores_of(champion.body, champion.json_bytes), scores_of(content, json_bytes))
