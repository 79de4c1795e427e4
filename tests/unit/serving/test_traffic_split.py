"""What becomes of one request while its model's traffic is shared, whatever the candidate does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from mlops_assets.ml.errors import BadRequest, ServerBusy
from mlops_assets.serving.http_answers import CONTENT_TYPE, JSON, REQUEST_ID, Answer, HttpRequest
from mlops_assets.serving.limits import LARGE_BODY
from mlops_assets.serving.traffic import Candidate, Observed, Traffic, different_keys
from mlops_assets.serving.traffic_split import QUEUED, QUEUED_BYTES, Timed, TrafficSplit, with_id

Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]
PATH = "/v1/models/m:predict"
BODY = b'{"instances": [{"x": 1}]}'


async def sound(request: web.Request) -> web.Response:
    """The candidate: it answers 3, in 2 ms as it says, and which request it was asked."""
    await request.read()
    headers = {"x-model-version": "2", "x-request-id": request.headers["x-request-id"], "server-timing": "graph;dur=2"}
    return web.json_response({"predictions": [3.0], "asked as": request.headers["x-mlops-role"]}, headers=headers)


async def refusing(request: web.Request) -> web.Response:
    return web.json_response({"error": "column y is missing"}, status=400)


async def failing(request: web.Request) -> web.Response:
    return web.Response(status=500, text="oops")


async def late(request: web.Request) -> web.Response:
    await asyncio.sleep(5)
    return web.Response()


async def hanging_up(request: web.Request) -> web.Response:
    assert request.transport
    request.transport.abort()
    return web.Response()


async def talking_nonsense(request: web.Request) -> web.Response:
    return web.json_response({"predictions": "many"})


async def redirecting(request: web.Request) -> web.Response:
    return web.Response(status=307, headers={"location": "http://127.0.0.1:9/elsewhere"})


async def champion() -> Timed:
    """It answers 2."""
    return Timed(Answer(200, orjson.dumps({"predictions": [2.0]})), 0.001)


def sent(
    respond: Respond | None, requests: int = 1, own: Callable[[], Awaitable[Timed]] = champion, **traffic: Any
) -> tuple[list[Any], Observed]:
    """Send requests through a split to a candidate that responds so, None for one that is away."""

    body = traffic.pop("body", BODY)

    async def run() -> tuple[list[Any], Observed]:
        application = web.Application(client_max_size=64 << 20)
        application.router.add_post(PATH, respond or sound)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        if respond is None:
            await site.stop()
        shares = {name: traffic.pop(name) for name in ("mirrored", "handed") if name in traffic}
        candidate = Candidate(version="2", url=f"http://127.0.0.1:{port}", **shares)
        async with aiohttp.ClientSession() as session:
            split = TrafficSplit(Traffic(id="a", champion="1", candidate=candidate, **traffic), session)
            request = HttpRequest(PATH, body, {CONTENT_TYPE: JSON})
            asked = (split.answered(with_id(request), own) for _ in range(requests))
            answers = await asyncio.gather(*asked, return_exceptions=True)
            async with asyncio.timeout(20):
                everything = requests * (shares.get("mirrored", 0) == 1)
                while split.observed.mirrored + split.observed.dropped < everything:
                    await asyncio.sleep(0.01)
            split.end()
            await runner.cleanup()
        return answers, split.observed

    return asyncio.run(run())


def nothing_counted(observed: Observed) -> bool:
    """Whether a request was held against nobody."""
    counted = observed.model_dump().values()
    return not any(any(value) if isinstance(value, tuple) else value for value in counted)


def prediction(answer: Answer) -> float:
    return json.loads(answer.body)["predictions"][0]


def test_a_request_of_the_candidates_share_gets_its_answer_and_its_version() -> None:
    [answer], observed = sent(sound, handed=1.0)
    assert prediction(answer) == 3
    assert dict(answer.headers)[b"x-model-version"] == b"2"
    assert json.loads(answer.body)["asked as"] == "canary"
    assert (observed.handed, observed.handed_failed, observed.asked) == (1, 0, 0)
    assert sum(observed.candidate_ms) == 1


FAULTS: dict[str, tuple[Respond | None, str]] = {
    "refuses": (refusing, "it answers 400: column y is missing"),
    "fails": (failing, "it answers 500: no reason"),
    "redirects": (redirecting, "it answers 307: no reason"),
    "is late": (late, "it does not answer within 0.2 s"),
    "hangs up": (hanging_up, "it does not answer: ServerDisconnectedError"),
    "is away": (None, "it does not answer: ClientConnectorError"),
}


@pytest.mark.parametrize(("respond", "reason"), FAULTS.values(), ids=FAULTS)
def test_what_the_candidate_gets_wrong_the_champion_answers(respond: Respond | None, reason: str) -> None:
    answers, observed = sent(respond, 4, handed=1.0, deadline_s=0.2)
    assert [prediction(answer) for answer in answers] == [2.0] * 4
    assert (observed.handed, observed.handed_failed, observed.asked) == (4, 4, 4)
    assert observed.reasons == {reason: 4}


@pytest.mark.parametrize(("respond", "reason"), FAULTS.values(), ids=FAULTS)
def test_what_it_gets_wrong_of_copies_is_counted(respond: Respond | None, reason: str) -> None:
    answers, observed = sent(respond, 4, mirrored=1.0, deadline_s=0.2)
    assert [prediction(answer) for answer in answers] == [2.0] * 4
    assert (observed.mirrored, observed.mirrored_failed, observed.asked) == (4, 4, 4)
    assert observed.reasons == {reason: 4}


def test_a_copy_is_compared() -> None:
    answers, observed = sent(sound, 3, mirrored=1.0)
    assert [prediction(answer) for answer in answers] == [2.0] * 3
    assert observed.rows == 3
    assert observed.pairs == ((2.0, 3.0),) * 3


@pytest.mark.parametrize("timing", ["graph;dur=.....", "graph;dur=1.2.3", "graph;dur=" + "9" * 500, "graph;dur=-1"])
def test_a_time_that_is_none_costs_neither_callers_nor_copies_their_answer(timing: str) -> None:
    async def respond(request: web.Request) -> web.Response:
        answer = await sound(request)
        answer.headers["server-timing"] = timing
        return answer

    [answer], observed = sent(respond, handed=1.0)
    assert (prediction(answer), observed.handed, observed.handed_failed) == (3, 1, 0)
    _, observed = sent(respond, 8, mirrored=1.0)
    assert (observed.mirrored, observed.mirrored_failed) == (8, 0)


def test_an_answer_that_is_none_is_a_fault() -> None:
    _, observed = sent(talking_nonsense, mirrored=1.0)
    assert observed.mirrored_failed == 1


def test_more_copies_than_fit_are_dropped_and_nobody_waits() -> None:
    answers, observed = sent(sound, 3 * QUEUED, mirrored=1.0)
    assert len(answers) == 3 * QUEUED
    assert observed.mirrored + observed.dropped == 3 * QUEUED
    assert observed.dropped > 0


def test_copies_are_held_up_to_so_many_bytes_and_those_on_their_way_count() -> None:
    body = b'{"instances": [{"x": 1}]}' + b" " * (3 << 20)
    answers, observed = sent(sound, 20, mirrored=1.0, body=body)
    assert len(answers) == 20
    assert (observed.mirrored, observed.mirrored_failed) == (QUEUED_BYTES // len(body), 0)
    assert observed.dropped == 20 - observed.mirrored


def test_a_large_body_has_the_deadline_for_each_mib() -> None:
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(2)
        return await sound(request)

    _, observed = sent(slow, handed=1.0, deadline_s=1)
    assert observed.reasons == {"it does not answer within 1 s": 1}
    _, observed = sent(slow, handed=1.0, deadline_s=1, body=b" " * (9 << 20) + BODY)
    assert (observed.handed, observed.reasons) == (1, {})


def test_of_large_copies_one_is_sent_at_a_time() -> None:
    asked, most = 0, 0

    async def counting(request: web.Request) -> web.Response:
        nonlocal asked, most
        asked += 1
        most = max(most, asked)
        await asyncio.sleep(0.02)
        asked -= 1
        return await sound(request)

    _, observed = sent(counting, 8, mirrored=1.0, body=b" " * LARGE_BODY + BODY)
    assert (observed.mirrored, observed.rows, most) == (8, 8, 1)
    _, observed = sent(counting, 8, mirrored=1.0)
    assert (observed.mirrored, most > 1) == (8, True)


@pytest.mark.parametrize("error", [BadRequest("column x is missing"), ServerBusy("too many")])
def test_what_the_champion_refuses_too_is_held_against_nobody(error: Exception) -> None:
    async def refuses() -> Timed:
        raise error

    [found], observed = sent(refusing, own=refuses, handed=1.0)
    assert found is error
    assert nothing_counted(observed)


def test_a_fault_of_the_champion_is_its_own() -> None:
    async def fails() -> Timed:
        raise RuntimeError("a bug")

    [error], observed = sent(sound, own=fails, mirrored=0.5)
    assert isinstance(error, RuntimeError)
    assert (observed.asked, observed.failed) == (1, 1)


def request_id(body: bytes, path: str = PATH, **headers: str) -> bytes:
    """The id that a request gets."""
    given = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return with_id(HttpRequest(path, body, given)).headers[REQUEST_ID]


def test_the_id_in_a_body_decides_and_goes_along() -> None:
    body = b'{"id": "mine", "instances": [{"x": 1}]}'
    assert request_id(body, x_request_id="another") == b"mine"
    assert request_id(BODY, x_request_id="another") == b"another"
    assert request_id(BODY, PATH, inference_header_content_length="nonsense"), "which V1 does not have"


def test_the_id_before_binary_tensors_is_read() -> None:
    head = b'{"id": "mine"}'
    path = "/v2/models/m/infer"
    assert request_id(head + b'}"id"', path, inference_header_content_length=str(len(head))) == b"mine"
    with pytest.raises(BadRequest, match="Inference-Header-Content-Length"):
        request_id(head, path, inference_header_content_length="15")


@pytest.mark.parametrize("body", [b'{"id": 3}', b'{"id": ', b'["id"]', b'"id"', b'\xff"id"}', b'{"id": null}'])
def test_a_body_without_an_id_that_can_be_read_gets_one(body: bytes) -> None:
    assert len(request_id(body)) == 32


@pytest.mark.parametrize("given", ["a\nb", "a\r\nx-model-version: 9", "a\x00", "é", "😀", "x" * 129, " "])
def test_an_id_that_is_none_is_the_callers_mistake_and_is_sent_to_nobody(given: str) -> None:
    with pytest.raises(BadRequest, match="printable ASCII"):
        request_id(json.dumps({"id": given, "instances": [{"x": 1}]}).encode())


@pytest.mark.parametrize("of_candidate", [True, False])
def test_a_caller_who_goes_away_counts_against_nobody_and_leaves_nothing_behind(of_candidate: bool) -> None:
    """As a cancelled call of gRPC, be it the candidate's share or the champion's."""

    async def slowly() -> Timed:
        await asyncio.sleep(60)
        return await champion()

    async def story() -> None:
        async with aiohttp.ClientSession() as session, silent_server() as url:
            candidate = Candidate(version="2", url=url, handed=float(of_candidate), mirrored=1.0)
            split = TrafficSplit(Traffic(id="a", champion="1", candidate=candidate, deadline_s=60), session)
            request = with_id(HttpRequest(PATH, BODY, {CONTENT_TYPE: JSON}))
            before = asyncio.all_tasks()
            calls = [asyncio.create_task(split.answered(request, slowly)) for _ in range(20)]
            await asyncio.sleep(0.2)
            for call in calls:
                call.cancel()
            assert all(isinstance(gone, asyncio.CancelledError) for gone in await gathered(calls))
            assert nothing_counted(split.observed)
            async with asyncio.timeout(5):
                while asyncio.all_tasks() != before:
                    await asyncio.sleep(0.01)
            assert session.connector is not None
            assert not session.connector._acquired  # pyright: ignore[reportPrivateUsage] - no connection is held
            split.end()

    asyncio.run(story())


async def gathered(calls: list[asyncio.Task[Answer]]) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


@asynccontextmanager
async def silent_server() -> AsyncGenerator[str]:
    """Takes connections and says nothing."""

    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("value", [b"x" * 60_000, b"\xff\x00\xe9" * 9, "\U0001f600".encode(), b""])
def test_a_header_of_any_length_and_bytes_decides_who_answers(value: bytes) -> None:
    async def told(split: TrafficSplit) -> bytes:
        request = with_id(HttpRequest(PATH, BODY, {CONTENT_TYPE: JSON, b"x-user": value}))
        return dict((await split.answered(request, champion)).headers).get(b"x-model-version", b"1")

    async def story() -> None:
        async with aiohttp.ClientSession() as session:
            candidate = Candidate(version="2", url="http://127.0.0.1:9", handed=0.5)
            split = TrafficSplit(Traffic(id="a", champion="1", candidate=candidate, header="x-user"), session)
            assert await told(split) == b"1"
            assert sum(split.observed.keys) == 1
            split.end()

    asyncio.run(story())


def test_requests_are_counted_by_what_they_are_dealt_out_by() -> None:
    _, observed = sent(sound, 50, handed=0.5)
    assert sum(observed.keys) == 50
    assert different_keys(observed.keys) > 20
    _, observed = sent(sound, 50, handed=0.5, body=b'{"id": "always", "instances": [{"x": 1}]}')
    assert different_keys(observed.keys) == 1
