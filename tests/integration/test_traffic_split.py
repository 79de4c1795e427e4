"""A model's requests of every protocol and form, shared by a real champion's server with a real candidate's."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest

from mlops_assets.serving.grpc_messages import SERVICE, pb
from mlops_assets.serving.limits import LARGE_BODY
from mlops_assets.serving.log_policy import InferenceLogPolicy
from mlops_assets.serving.rollout_policy import RolloutPolicy
from mlops_assets.serving.traffic import SAMPLED, Candidate, Observed, Traffic, lies_within
from resources.lake.lake import Lake
from resources.serving.live_traffic import LiveTraffic
from tests.model_servers import ModelServer, model_server
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

ROWS = [1.5, 2.0, 4.0]
MANY = [1.5] * 20_000
FACTORS = {"1": 2.0, "2": 2.5}


class Given(NamedTuple):
    """What a caller gets: the id and the version that answered, and its answers."""

    request_id: str
    version: str
    answers: list[float]


class Pair:
    """A champion's server and a candidate's, which share a lake."""

    def __init__(self, folder: Path, champion: ModelServer, candidate: ModelServer) -> None:
        self.lake = Lake(uri=str(folder / "lake"), cache=str(folder / "cache"))
        self.champion, self.candidate = champion, candidate
        self._channel = grpc.insecure_channel(f"127.0.0.1:{champion.grpc_port}")
        self.infer: Any = self._channel.unary_unary(
            f"/{SERVICE}/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )

    @contextmanager
    def sharing(
        self, *, header: str | None = None, deadline: str = "20s", url: str | None = None, **shares: float
    ) -> Generator[Callable[[], Observed]]:
        """Share requests while the block runs; what is given tells what was seen."""
        policy = RolloutPolicy.model_validate({"deadline": deadline, "canary_header": header})
        live = LiveTraffic(self.lake.store, "m", policy, lambda: None)
        with live.shared("1", Candidate(version="2", url=url or self.candidate.url, **shares)) as traffic:
            wait_until(lambda: live.observed(traffic)[1] == 1)
            yield lambda: live.observed(traffic)[0]
        wait_until(lambda: b"answers all requests again" in self.log_since(traffic))

    def log_since(self, traffic: Traffic) -> bytes:
        """What the champion's server has said since it began to share."""
        return self.champion.log.read_bytes().rpartition(f"gets copies of {traffic.candidate.mirrored:g}".encode())[2]

    def http(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[bytes, Any]:
        """Body and headers of an answer, which is no error."""
        request = urllib.request.Request(f"{self.champion.url}{path}", body, headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.read(), response.headers


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    with pair_of(folder) as found:
        yield found


@contextmanager
def pair_of(folder: Path, *options: str, of_both: tuple[str, ...] = ()) -> Generator[Pair]:
    """Two servers; `options` are the candidate's."""
    lake = ("--lake-uri", str(folder / "lake"), *of_both)
    log, second = InferenceLogPolicy(), ("--candidates", *lake, *options)
    with (
        model_server(folder / "1", *lake, policy=log, factor=FACTORS["1"]) as champion,
        model_server(folder / "2", *second, policy=log, factor=FACTORS["2"], version="2") as candidate,
    ):
        yield Pair(folder, champion, candidate)


def v1(pair: Pair, request_id: str, user: str, rows: list[float], *, packed: bool = False) -> Given:
    body, headers = json.dumps({"instances": [{"x": x} for x in rows]}).encode(), {"content-type": "application/json"}
    if packed:
        body, headers = gzip.compress(body), headers | {"content-encoding": "gzip"}
    content, about = pair.http("/v1/models/m:predict", body, headers | {"x-request-id": request_id, "x-user": user})
    found = json.loads(content)
    assert (about["x-request-id"], about["x-model-version"]) == (found["id"], found["model_version"])
    return Given(found["id"], found["model_version"], found["predictions"])


def v2(pair: Pair, request_id: str, user: str, rows: list[float], *, packed: bool = False) -> Given:
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(rows), 1], "data": rows}
    body, headers = json.dumps({"id": request_id, "inputs": [tensor]}).encode(), {"x-user": user}
    if packed:
        body, headers = gzip.compress(body), headers | {"content-encoding": "gzip"}
    found = json.loads(pair.http("/v2/models/m/infer", body, headers)[0])
    return Given(found["id"], found["model_version"], found["outputs"][0]["data"])


def binary(pair: Pair, request_id: str, user: str, rows: list[float], *, packed: bool = False) -> Given:
    values = np.array(rows, "<f4").tobytes()
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(rows)], "parameters": {"binary_data_size": len(values)}}
    head = json.dumps({"id": request_id, "inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    body, headers = head + values, {"inference-header-content-length": str(len(head)), "x-user": user}
    if packed:
        body, headers = gzip.compress(body), headers | {"content-encoding": "gzip"}
    content, about = pair.http("/v2/models/m/infer", body, headers)
    json_bytes = int(about["inference-header-content-length"])
    found = json.loads(content[:json_bytes])
    return Given(found["id"], found["model_version"], np.frombuffer(content[json_bytes:], "<f4").tolist())


def over_grpc(pair: Pair, request_id: str, user: str, rows: list[float]) -> Given:
    request = pb.ModelInferRequest(model_name="m", id=request_id)
    request.inputs.add(name="x", datatype="FP32", shape=[len(rows), 1]).contents.fp32_contents.extend(rows)
    found = pair.infer(request, timeout=30, metadata=[("x-user", user)])
    return Given(found.id, found.model_version, list(found.outputs[0].contents.fp32_contents))


def raw_over_grpc(pair: Pair, request_id: str, user: str, rows: list[float]) -> Given:
    request = pb.ModelInferRequest(model_name="m", raw_input_contents=[np.array(rows, "<f4").tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[len(rows), 1])
    found = pair.infer(request, timeout=30, metadata=[("x-user", user), ("x-request-id", request_id)])
    return Given(found.id, found.model_version, np.frombuffer(found.raw_output_contents[0], "<f4").tolist())


FORMS: dict[str, tuple[Callable[..., Given], list[float], dict[str, Any]]] = {
    "V1": (v1, ROWS, {}),
    "V1, gzip": (v1, ROWS, {"packed": True}),
    "V1, large": (v1, MANY, {}),
    "V1, large, gzip": (v1, MANY, {"packed": True}),
    "V2": (v2, ROWS, {}),
    "V2, gzip": (v2, ROWS, {"packed": True}),
    "V2, large": (v2, MANY, {}),
    "V2, binary": (binary, ROWS, {}),
    "V2, binary, gzip": (binary, ROWS, {"packed": True}),
    "V2, binary, large": (binary, MANY, {}),
    "gRPC": (over_grpc, ROWS, {}),
    "gRPC, large": (over_grpc, MANY, {}),
    "gRPC, raw": (raw_over_grpc, ROWS, {}),
    "gRPC, raw, large": (raw_over_grpc, MANY, {}),
}
assert 4 * len(MANY) > LARGE_BODY


def asked(pair: Pair, form: str, request_id: str, user: str = "") -> Given:
    """Ask in a form; what comes is right for whichever version it is of."""
    ask, rows, more = FORMS[form]
    given = ask(pair, request_id, user, rows, **more)
    assert given.request_id == request_id
    assert given.answers == [FACTORS[given.version] * x for x in rows]
    return given


def test_the_candidates_share_is_the_same_in_every_form(pair: Pair) -> None:
    names = [f"r{index}" for index in range(30)]
    wanted = {name: "2" if lies_within(0.3, name, "canary") else "1" for name in names}
    assert set(wanted.values()) == {"1", "2"}
    with pair.sharing(handed=0.3) as observed:
        for form in FORMS:
            assert {name: asked(pair, form, name).version for name in names} == wanted, form
        handed = len(FORMS) * [*wanted.values()].count("2")
        wait_until(lambda: observed().handed == handed)
        assert observed().handed_failed == 0
        assert observed().asked == len(FORMS) * len(names) - handed
        assert sum(observed().candidate_ms) == handed


def test_one_user_sees_one_version_in_every_form(pair: Pair) -> None:
    seen = dict[str, set[str]]()
    with pair.sharing(handed=0.5, header="x-user"):
        for number, form in enumerate(FORMS):
            for user in map(str, range(8)):
                seen.setdefault(user, set()).add(asked(pair, form, f"{number}-{user}", user).version)
    assert {len(versions) for versions in seen.values()} == {1}
    assert {version for versions in seen.values() for version in versions} == {"1", "2"}


def test_copies_of_every_form_are_compared_row_by_row(pair: Pair) -> None:
    names = [f"{form}-{number}".replace(" ", "") for form in FORMS for number in range(3)]
    asked_about = [x for _, rows, _ in FORMS.values() for x in 3 * rows]
    with pair.sharing(mirrored=1.0) as observed:
        for name, form in zip(names, (form for form in FORMS for _ in range(3)), strict=True):
            assert asked(pair, form, name).version == "1"
        wait_until(lambda: observed().mirrored == len(names))
        found = observed()
    assert (found.mirrored_failed, found.dropped, found.reasons) == (0, 0, {})
    assert (found.rows, len(found.pairs)) == (len(asked_about), SAMPLED)
    assert {its / mine for mine, its in found.pairs} == {FACTORS["2"] / FACTORS["1"]}
    assert sum(found.candidate_ms) == sum(found.champion_ms) == len(names)


def test_a_candidate_that_refuses_hangs_or_is_away_costs_no_caller_an_answer(tmp_path: Path) -> None:
    with pair_of(tmp_path, "--max-rows", "2") as pair:  # as many as its golden rows, and fewer than anybody asks about
        with pair.sharing(handed=1.0) as observed:
            for form in FORMS:
                assert asked(pair, form, "r1").version == "1"
            wait_until(lambda: observed().handed_failed == len(FORMS))
            assert all("answers 400" in reason for reason in observed().reasons)
        os.kill(pair.candidate.process.pid, signal.SIGSTOP)
        with pair.sharing(handed=1.0, deadline="1s") as observed:
            for form in FORMS:
                assert asked(pair, form, "r2").version == "1"
            wait_until(lambda: observed().handed_failed == len(FORMS))
            assert set(observed().reasons) == {"it does not answer within 1 s"}
        pair.candidate.process.kill()
        pair.candidate.process.wait()
        with pair.sharing(handed=1.0) as observed:
            for form in FORMS:
                assert asked(pair, form, "r3").version == "1"
            wait_until(lambda: observed().handed_failed == len(FORMS))
            assert all("does not answer" in reason for reason in observed().reasons)


def codes(server: ModelServer) -> dict[str, float]:
    """How many requests of the model ended with each status."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = [re.fullmatch(r'model_requests_total\{code="(\d+)",model="m"\} (.*)', line) for line in lines]
    return {match[1]: float(match[2]) for match in found if match}


def test_callers_who_go_away_count_against_nobody_and_nothing_is_held_for_them(tmp_path: Path) -> None:
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="x", datatype="FP32", shape=[len(MANY), 1]).contents.fp32_contents.extend(MANY)
    with pair_of(tmp_path) as pair:
        os.kill(pair.candidate.process.pid, signal.SIGSTOP)
        with pair.sharing(handed=1.0, deadline="60s") as observed:
            calls = [pair.infer.future(message, timeout=60) for _ in range(6)]
            time.sleep(1)
            for call in calls:
                call.cancel()
            wait_until(lambda: codes(pair.champion).get("499") == len(calls))
            os.kill(pair.candidate.process.pid, signal.SIGCONT)
            for number in range(6):  # of large ones there is room for as many as before
                assert asked(pair, "gRPC, large", f"r{number}").version == "2"
            wait_until(lambda: observed().handed == 6)
            assert (observed().handed_failed, observed().asked, observed().reasons) == (0, 0, {})
        assert set(codes(pair.champion)) == {"200", "499"}


@pytest.mark.parametrize("user", ["x" * (192 << 10), "x" * 60_000, "caf\u00e9", "\u00ff" * 40])
def test_a_header_that_is_huge_or_no_ascii_is_dealt_out_or_refused_with_the_reason(pair: Pair, user: str) -> None:
    body = json.dumps({"instances": [{"x": 1.5}]}).encode()
    before = codes(pair.champion).get("500", 0)
    with pair.sharing(handed=0.5, header="x-user"):
        given = set[str]()
        for _ in range(3):
            try:
                content, _ = pair.http("/v1/models/m:predict", body, {"x-user": user})
                given.add(json.loads(content)["model_version"])
            except urllib.error.HTTPError as error:
                assert (error.code, b"headers are larger than 64 KiB" in error.read()) == (400, True)
                given.add("refused")
        assert len(given) == 1, "one user sees one version"
        assert given != {"refused"} or len(user) > 64 << 10
        try:
            over_grpc(pair, "r1", user, ROWS)
        except grpc.RpcError as error:
            found: Any = error
            assert found.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL)
            assert "metadata" in found.details().lower()
        except ValueError:
            assert not user.isascii(), "which gRPC does not send"
    assert codes(pair.champion).get("500", 0) == before


class TalksNonsense(BaseHTTPRequestHandler):
    """What answers everything, and nothing of a model."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "8")
        self.end_headers()
        self.wfile.write(b"nonsense")


def test_an_answer_that_is_no_message_is_the_champions(pair: Pair) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), TalksNonsense) as candidate:
        threading.Thread(target=candidate.serve_forever, daemon=True).start()
        with pair.sharing(handed=1.0, url=f"http://127.0.0.1:{candidate.server_port}"):
            for form in FORMS:
                if "gRPC" in form:
                    assert asked(pair, form, "r1").version == "1"
        candidate.shutdown()


class SetsCookies(TalksNonsense):
    """As a gateway that keeps each caller on one server."""

    seen: ClassVar = list[str | None]()

    def do_POST(self) -> None:
        self.seen.append(self.headers["cookie"])
        super().do_POST()

    def end_headers(self) -> None:
        self.send_header("set-cookie", "server=1; Path=/")
        super().end_headers()


def test_no_cookie_of_a_candidates_gateway_goes_on_with_other_callers_requests(pair: Pair) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), SetsCookies) as candidate:
        threading.Thread(target=candidate.serve_forever, daemon=True).start()
        with pair.sharing(mirrored=1.0, url=f"http://localhost:{candidate.server_port}"):
            for caller in range(3):
                asked(pair, "V1", f"r{caller}")
                wait_until(lambda caller=caller: len(SetsCookies.seen) == caller + 1)
        candidate.shutdown()
    assert SetsCookies.seen == [None] * 3


def test_what_a_caller_gets_wrong_is_refused_as_without_a_candidate(pair: Pair) -> None:
    wrong = pb.ModelInferRequest(model_name="m")
    wrong.inputs.add(name="x", datatype="INT8", shape=[1]).contents.int_contents.append(300)
    only_some = pb.ModelInferRequest(model_name="m", raw_input_contents=[b"", b""])
    bad_id = pb.ModelInferRequest(model_name="m", id="a b")
    another = pb.ModelInferRequest(model_name="m")
    another.inputs.add(name="y", datatype="FP32", shape=[1]).contents.fp32_contents.append(1)

    def told() -> list[tuple[Any, str]]:
        found = []
        for request in (wrong, only_some, bad_id, another):
            with pytest.raises(grpc.RpcError) as caught:
                pair.infer(request, timeout=20)
            error: Any = caught.value
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
            found.append(error.details())
        return found

    alone = told()
    with pair.sharing(handed=0.5, mirrored=0.5) as observed:
        for _ in range(5):
            assert told() == alone
        asked(pair, "V1", "r1")
        wait_until(lambda: observed().asked + observed().handed > 0)
        assert observed().handed_failed + observed().failed == 0


def test_a_version_that_is_named_answers_itself(pair: Pair) -> None:
    request = pb.ModelInferRequest(model_name="m", model_version="1")
    request.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.append(1.5)
    with pair.sharing(handed=1.0):
        assert pair.infer(request, timeout=20).model_version == "1"


def test_what_is_too_large_over_http_the_champion_answers(tmp_path: Path) -> None:
    rows = 200_000  # each number is one byte in a message, and eight in a binary tensor
    request = pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="INT64", shape=[rows]).contents.int64_contents.extend([3] * rows)
    limits = ("--max-body-mib", "1", "--max-rows", str(rows))
    with pair_of(tmp_path, of_both=limits) as pair, pair.sharing(handed=1.0) as observed:
        found = pair.infer(request, timeout=30)
        assert (found.model_version, found.outputs[0].contents.fp32_contents[-1]) == ("1", 6)
        assert asked(pair, "V1", "r1").version == "2"
        wait_until(lambda: observed().handed == 1)
        assert observed().handed_failed == 0


def test_who_answered_stands_in_the_log_in_every_form(tmp_path: Path) -> None:
    with pair_of(tmp_path) as pair:
        with pair.sharing(handed=1.0):
            for number, form in enumerate(FORMS):
                asked(pair, form, f"handed-{number}")
        with pair.sharing(mirrored=1.0) as observed:
            for number, form in enumerate(FORMS):
                asked(pair, form, f"copied-{number}")
            wait_until(lambda: observed().mirrored == len(FORMS))
        for server in (pair.champion, pair.candidate):
            server.process.terminate()
            server.process.wait()
        found = dict[str, set[tuple[str, str]]]()
        for item in pair.lake.store.list("inference/m/**/*.parquet"):
            for row in pq.read_table(io.BytesIO(pair.lake.store.read(item.key) or b"")).to_pylist():
                found.setdefault(row["request_id"], set()).add((row["version"], row["role"]))
    both = {("1", "champion"), ("2", "mirror")}
    assert found == {f"handed-{number}": {("2", "canary")} for number in range(len(FORMS))} | {
        f"copied-{number}": both for number in range(len(FORMS))
    }
