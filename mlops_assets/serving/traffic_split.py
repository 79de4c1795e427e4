"""Shares a model's live requests between the champion, which this server has, and a candidate, which another one has.

A copy goes to the candidate when the caller has its answer: it waits for nothing. A request that is handed over is
answered by the champion when the candidate fails, refuses it or is late, so that no caller sees its fault.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import orjson

from mlops_assets.ml.errors import BadRequest
from mlops_assets.serving.answers_compared import compare
from mlops_assets.serving.http_answers import (
    CANARY,
    MIRROR,
    REQUEST_ID,
    ROLE,
    TIMING,
    VERSION,
    Answer,
)
from mlops_assets.serving.inference_protocol import request_id_of
from mlops_assets.serving.traffic import BOUNDS_MS, PAIRS, Observed, bound_of, lies_within

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlops_assets.serving.http_answers import Headers
    from mlops_assets.serving.traffic import Traffic

QUEUED, SENDERS = 100, 4
PASSED_ON = (b"content-type", b"inference-header-content-length")
DURATION = re.compile(r"graph;dur=([0-9.]+)")


class Copy(NamedTuple):
    """A request that the candidate is to answer too, and what the champion answered."""

    path: str
    body: bytes
    headers: dict[str, str]
    answer: Answer


class _CandidateFailed(Exception):
    """Why the candidate did not answer."""


class TrafficSplit:
    """The split of one model while one `Traffic` is in force."""

    def __init__(self, traffic: Traffic, session: aiohttp.ClientSession) -> None:
        self.traffic, self.candidate, self._session = traffic, traffic.candidate, session
        self._timeout = aiohttp.ClientTimeout(total=traffic.deadline_s)
        self._header = traffic.header.encode() if traffic.header else None
        self._queue = asyncio.Queue[Copy](QUEUED)
        self._senders = [asyncio.create_task(self._send_copies()) for _ in range(SENDERS)]
        self._counts = dict[str, Any](asked=0, failed=0, handed=0, handed_failed=0, mirrored=0, mirrored_failed=0)
        self._counts |= {"dropped": 0, "rows": 0, "changed": 0, "distance": 0.0, "total": 0.0, "squares": 0.0}
        self._champion_ms, self._candidate_ms = [0] * len(BOUNDS_MS), [0] * len(BOUNDS_MS)
        self._reasons, self._pairs = dict[str, int](), list[tuple[float, float]]()

    async def answered(self, path: str, body: bytes, headers: Headers, own: Callable[[Headers], Answer]) -> Answer:
        """The answer to a request, by the candidate where it belongs to its share, else by `own`, the champion's.

        Raises:
            BadRequest: the champion refuses it, or its id is none.
        """
        given = headers.get(REQUEST_ID, b"").decode("latin-1")
        request_id = request_id_of(_id_in(body)) or request_id_of(given) or uuid.uuid4().hex
        headers = {**headers, REQUEST_ID: request_id.encode()}
        key = request_id
        if self._header and (user := headers.get(self._header)):
            key = user.decode("latin-1")
        failure = None
        if lies_within(self.candidate.handed, key, "canary"):
            try:
                return await self._handed_over(path, body, headers)
            except _CandidateFailed as error:
                failure = str(error)
        start = time.perf_counter()
        try:
            answer = own(headers)
        except BadRequest:
            raise  # the caller's fault, also where the candidate said so
        except Exception:
            self._counts["asked"] += 1
            self._counts["failed"] += 1
            raise
        self._counts["asked"] += 1
        self._champion_ms[bound_of(time.perf_counter() - start)] += 1
        if failure:
            self._counts["handed"] += 1
            self._counts["handed_failed"] += 1
            self._note(failure)
        elif lies_within(self.candidate.mirrored, key, "mirror"):
            try:
                self._queue.put_nowait(Copy(path, body, self._headers(headers, MIRROR), answer))
            except asyncio.QueueFull:
                self._counts["dropped"] += 1
        return answer

    async def _handed_over(self, path: str, body: bytes, headers: Headers) -> Answer:
        code, content, received = await self._asked(path, body, self._headers(headers, CANARY))
        if code != 200:
            raise _CandidateFailed(f"it answers {code}: {_reason(content)}")
        self._counts["handed"] += 1
        self._candidate_time(received)
        kept = (VERSION, REQUEST_ID, PASSED_ON[1])
        named = [(name, received[name.decode()].encode()) for name in kept if name.decode() in received]
        return Answer(200, content, received.get("content-type", "application/json").encode(), named)

    async def _asked(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, Any]:
        """What the candidate answers: status, body and headers.

        Raises:
            _CandidateFailed: nothing, in time.
        """
        try:
            url = f"{self.candidate.url}{path}"
            async with self._session.post(url, data=body, headers=headers, timeout=self._timeout) as response:
                return response.status, await response.read(), response.headers
        except TimeoutError:
            raise _CandidateFailed(f"it does not answer within {self.traffic.deadline_s:g} s") from None
        except aiohttp.ClientError as error:
            raise _CandidateFailed(f"it does not answer: {type(error).__name__}") from None

    async def _send_copies(self) -> None:
        while True:
            copy = await self._queue.get()
            try:
                code, content, received = await self._asked(copy.path, copy.body, copy.headers)
                if code != 200:
                    raise _CandidateFailed(f"it answers {code}: {_reason(content)}")
                self._candidate_time(received)
                self._compare(copy.answer, content)
            except _CandidateFailed as failure:
                self._counts["mirrored_failed"] += 1
                self._note(str(failure))
            self._counts["mirrored"] += 1

    def _compare(self, answer: Answer, content: bytes) -> None:
        if any(name == PASSED_ON[1] for name, _ in answer.headers):
            return  # of binary tensors it counts that they were answered
        try:
            rows = compare(answer.body, content)
        except ValueError as error:
            raise _CandidateFailed(str(error)) from error
        for row in rows:
            self._counts["rows"] += 1
            self._counts["changed"] += row.changed
            self._counts["distance"] += abs(row.champion - row.candidate)
            self._counts["total"] += row.champion
            self._counts["squares"] += row.champion**2
            if len(self._pairs) < PAIRS:
                self._pairs.append((row.champion, row.candidate))

    def _candidate_time(self, received: Any) -> None:
        if found := DURATION.search(received.get(TIMING.decode(), "")):
            self._candidate_ms[bound_of(float(found[1]) / 1e3)] += 1

    def _headers(self, headers: Headers, role: bytes) -> dict[str, str]:
        passed = (*PASSED_ON, REQUEST_ID)
        return {name.decode(): headers[name].decode("latin-1") for name in passed if name in headers} | {
            ROLE.decode(): role.decode()
        }

    def _note(self, reason: str) -> None:
        if reason in self._reasons or len(self._reasons) < 5:
            self._reasons[reason] = self._reasons.get(reason, 0) + 1

    @property
    def observed(self) -> Observed:
        """What was seen up to now."""
        return Observed(
            **self._counts,
            champion_ms=tuple(self._champion_ms),
            candidate_ms=tuple(self._candidate_ms),
            reasons=self._reasons,
            pairs=tuple(self._pairs),
        )

    def end(self) -> None:
        """Send no more copies."""
        for sender in self._senders:
            sender.cancel()


def _id_in(body: bytes) -> str | None:
    """The id that a request's JSON has."""
    if b'"id"' not in body:
        return None
    try:
        found = orjson.loads(body[: body.rfind(b"}") + 1])
    except orjson.JSONDecodeError:
        return None
    given = found.get("id") if isinstance(found, dict) else None
    return given if isinstance(given, str) else None


def _reason(content: bytes) -> str:
    try:
        return str(orjson.loads(content)["error"])[:200]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "no reason"
