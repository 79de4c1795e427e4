"""The local model server: proved before it answers, swapped without a failed request, rolled back when proof fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.ml.errors import DeploymentError
from mlops_assets.ml.inference.artifact import ModelSignature
from mlops_assets.testing import check_serving_target
from resources.serving.local_serving import LocalServing
from tests.artifacts import describe_anew, write_artifact
from tests.support import TORCH, free_port, post, weather

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support import Platform

ROW = {"place": "Bern", "pressure": 990.0, "humidity": 95.0}


@pytest.fixture
def deployed(platform: Platform) -> Platform:
    """A platform on which version 1 answers."""
    platform.put(weather())
    assert platform.run().success
    return platform


def artifact(platform: Platform, folder: Path, version: int = 1) -> tuple[Path, str]:
    """A copy of a version's artifact, and its digest."""
    found = platform.tracking.version_of(platform.model, platform.tracking.by_alias(platform.model, "champion").sha256)  # pyright: ignore
    assert found is not None
    assert found.version == version
    folder.mkdir()
    return platform.tracking.download(found, folder), found.sha256


class Clients:
    """Clients that keep asking while the block runs, and what they were answered."""

    def __init__(self, platform: Platform) -> None:
        self.platform, self.stop = platform, threading.Event()
        self.answers: list[tuple[int, str]] = []

    def __enter__(self) -> Clients:
        self.pool = ThreadPoolExecutor(4)
        self.futures = [self.pool.submit(self._ask) for _ in range(4)]
        return self

    def _ask(self) -> None:
        url = f"{self.platform.serving.server.url}/v1/models/{self.platform.model}:predict"
        while not self.stop.is_set():
            code, content = post(url, {"instances": [ROW]})
            self.answers.append((code, content.get("model_version", "")))

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for future in self.futures:
            future.result()
        self.pool.shutdown()


def test_a_new_version_takes_over_without_a_failed_request(deployed: Platform) -> None:
    with Clients(deployed) as clients:
        deployed.put(weather(900, seed=3), "b.csv")
        # All callers ask about one row, whose answer may be another one
        proofs = {"shadow_requests": 20, "canary_requests": 20, "max_changed": 1, "bake": None}
        changed = {"train": TORCH | {"epochs": 8}, "deploy": {"rollout": proofs}}
        result = deployed.run(deployed.spec(**changed, gate={"metric": "accuracy", "at_least": 0.5}))
        assert result.success
        versions = {answer[1] for answer in clients.answers}
    assert {code for code, _ in clients.answers} == {200}
    assert versions <= {"1", "2"}
    assert len(clients.answers) > 50
    [materialized] = result.asset_materializations_for_node(f"{deployed.model}__deployment")
    address = re.search(r"!\[plot\]\((.*)\)", str(materialized.metadata["scores"].value))
    assert address
    with urllib.request.urlopen(address[1], timeout=10) as picture:
        assert picture.read(4) == b"\x89PNG"


@pytest.mark.long
def test_swapping_back_and_forth_under_load_fails_no_request(deployed: Platform, tmp_path: Path) -> None:
    first, digest = artifact(deployed, tmp_path / "first")
    with Clients(deployed) as clients:
        for version in range(2, 12):
            deployed.serving.deploy(deployed.model, first, digest, version)
    assert {code for code, _ in clients.answers} == {200}
    assert clients.answers[-1][1] == "11"
    assert len({version for _, version in clients.answers}) > 5


def tampered(source: Path, target: Path, harm: str, digest: str) -> str:
    """Copy an artifact that is harmed; the digest under which it is deployed."""
    shutil.copytree(source, target)
    if harm == "digest":
        content = (target / "model.onnx").read_bytes()
        (target / "model.onnx").write_bytes(content[:-1] + b"x")
    elif harm in ("description", "golden"):
        signature = ModelSignature.read(target)
        outputs = signature.golden.outputs | {"probabilities": [[0.0, 1.0]] * len(signature.golden.rows)}
        golden = signature.golden.model_copy(update={"outputs": outputs})
        changed = signature.model_copy(update={"golden": golden})
        if harm == "golden":
            return describe_anew(target, changed)
        changed.write(target)
    elif harm == "pickle":
        (target / "model.pkl").write_bytes(b"\x80\x04.")
    return digest


HARMS = {
    "digest": "digest",
    "description": "model.json is not the one that belongs to model.onnx",
    "golden": "answers its golden rows differently",
    "pickle": "model.pkl is no part",
}


@pytest.mark.parametrize(("harm", "message"), HARMS.items())
def test_a_version_whose_proof_fails_is_not_rolled_out(
    deployed: Platform, tmp_path: Path, harm: str, message: str
) -> None:
    first, digest = artifact(deployed, tmp_path / "first")
    digest = tampered(first, tmp_path / harm, harm, digest)
    with Clients(deployed) as clients, pytest.raises(DeploymentError, match=message) as caught:
        deployed.serving.deploy(deployed.model, tmp_path / harm, digest, 2)
    assert "version 1 keeps answering" in str(caught.value)
    assert set(clients.answers) == {(200, "1")}
    assert deployed.serving.current(deployed.model).version == "1"  # pyright: ignore
    assert deployed.champion() == 1


def test_the_first_version_of_a_model_that_fails_leaves_nothing(deployed: Platform, tmp_path: Path) -> None:
    first, digest = artifact(deployed, tmp_path / "first")
    digest = tampered(first, tmp_path / "broken", "golden", digest)
    with pytest.raises(DeploymentError, match="nothing is served"):
        deployed.serving.deploy("another", tmp_path / "broken", digest, 1)
    assert post(f"{deployed.serving.server.url}/v1/models/another:predict", {"instances": [ROW]})[0] == 404
    assert deployed.served() == "1"


def test_the_local_target_keeps_what_every_target_promises(tmp_path: Path) -> None:
    write_artifact(tmp_path / "artifact")
    target = LocalServing(state=str(tmp_path / "serving"), port=free_port())
    try:
        check_serving_target(target, tmp_path / "artifact")
    finally:
        target.stop()


def test_a_server_killed_comes_back_with_what_it_served(deployed: Platform, tmp_path: Path) -> None:
    pid = deployed.serving.server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    first, digest = artifact(deployed, tmp_path / "first")
    deployed.serving.deploy(deployed.model, first, digest, 1)
    assert deployed.serving.server.pid() != pid
    assert deployed.served() == "1"


def test_a_server_that_restarts_refuses_a_file_that_was_changed(deployed: Platform) -> None:
    deployed.serving.server.stop()
    [graph] = Path(deployed.serving.state).glob("models/*/*/model.onnx")
    graph.write_bytes(graph.read_bytes() + b"x")
    url = deployed.serving.server.ensure_running()
    code, content = post(f"{url}/v1/models/{deployed.model}:predict", {"instances": [ROW]})
    assert (code, "there is no model" in content["error"]) == (404, True)
    assert "is not served: model.onnx has the digest" in deployed.serving.server.log.read_text()


def get(url: str) -> tuple[int, Any]:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_both_protocols_and_the_model_metadata(deployed: Platform) -> None:
    base = deployed.serving.server.url
    inputs = [
        {"name": "place", "datatype": "BYTES", "shape": [1, 1], "data": ["Bern"]},
        {"name": "pressure", "datatype": "FP32", "shape": [1, 1], "data": [990.0]},
        {"name": "humidity", "datatype": "FP32", "shape": [1, 1], "data": [95.0]},
    ]
    code, second = post(f"{base}/v2/models/{deployed.model}/infer", {"inputs": inputs})
    assert code == 200
    assert second["id"]
    outputs = {output["name"]: output for output in second["outputs"]}
    [first] = deployed.ask([ROW])["predictions"]
    assert outputs["probabilities"]["data"] == pytest.approx(first["probabilities"])
    assert outputs["probabilities"]["shape"] == [1, 2]
    assert post(f"{base}/v2/models/{deployed.model}/infer", {"id": "mine", "inputs": inputs})[1]["id"] == "mine"
    code, described = get(f"{base}/v2/models/{deployed.model}")
    assert [(item["name"], item["datatype"]) for item in json.loads(described)["inputs"]] == [
        ("place", "BYTES"),
        ("pressure", "FP32"),
        ("humidity", "FP32"),
    ]
    assert get(f"{base}/v2/models/{deployed.model}/ready")[0] == 200


REQUESTS: dict[str, tuple[str, bytes, int, str]] = {
    "not JSON": ("/v1/models/{m}:predict", b"{", 400, "not JSON"),
    "empty body": ("/v1/models/{m}:predict", b"", 400, "not JSON"),
    "a list": ("/v2/models/{m}/infer", b"[]", 400, "must be a JSON object"),
    "no instances": ("/v1/models/{m}:predict", b"{}", 400, '"instances"'),
    "wrong column": ("/v1/models/{m}:predict", b'{"instances": [{"wind": 1}]}', 400, "column place is missing"),
    "wrong type": (
        "/v1/models/{m}:predict",
        b'{"instances": [{"place": 1, "pressure": 2}]}',
        400,
        "column place: row 0 is 1, but must be a string",
    ),
    "unknown model": ("/v1/models/none:predict", b'{"instances": []}', 404, "there is no model 'none'"),
    "unknown model V2": ("/v2/models/none/infer", b"{}", 404, "there is no model 'none'"),
    "load of a path": ("/v2/repository/models/..%2f..%2fetc/load", b"{}", 404, "there is no such route"),
    "load without the token": ("/v2/repository/models/none/load", b"{}", 401, "shows the server's token"),
    "unload": ("/v2/repository/models/{m}/unload", b"{}", 404, "there is no such route"),
    "deeply nested": ("/v1/models/{m}:predict", b'{"instances":' + b"[" * 100_000, 400, "not JSON"),
    "half a surrogate": ("/v1/models/{m}:predict", b'{"instances": [{"place": "\\ud800", "pressure": 1}]}', 400, ""),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, mlflow_uri: str) -> Iterator[Platform]:
    """One deployed model for all requests."""
    from tests.support import Platform

    made = Platform(tmp_path_factory.mktemp("shared"), mlflow_uri)
    made.put(weather())
    assert made.run().success
    yield made
    made.serving.stop()


@pytest.mark.parametrize(("path", "body", "code", "message"), REQUESTS.values(), ids=REQUESTS)
def test_a_wrong_request_gets_4xx_with_its_reason(
    shared: Platform, path: str, body: bytes, code: int, message: str
) -> None:
    found, content = post(shared.serving.server.url + path.format(m=shared.model), body)
    assert found == code
    assert message.lower() in str(content.get("error", content)).lower()


def test_a_body_that_is_too_large_is_refused(shared: Platform) -> None:
    code, content = post(f"{shared.serving.server.url}/v1/models/{shared.model}:predict", b" " * ((8 << 20) + 1))
    assert (code, content["error"]) == (413, "the body is larger than 8 MiB")
    assert shared.served() == "1"


def test_a_large_batch_is_answered(shared: Platform) -> None:
    answers = shared.ask([ROW] * 20_000)["predictions"]
    assert len(answers) == 20_000
    assert answers[0] == answers[-1]


def test_requests_are_counted(shared: Platform) -> None:
    base = shared.serving.server.url
    shared.ask()
    post(f"{base}/v1/models/{shared.model}:predict", b"{}")
    text = get(f"{base}/metrics")[1]
    assert f'model_requests_total{{code="200",model="{shared.model}"}}' in text
    assert f'model_requests_total{{code="400",model="{shared.model}"}}' in text
    assert f'model_request_duration_seconds_count{{model="{shared.model}"}}' in text
    assert re.search(rf'model_answers_total{{label="\w+",model="{shared.model}"}} [1-9]', text)
    assert re.search(rf'model_answer_score_bucket{{le="1.0",model="{shared.model}"}} [1-9]', text)


def test_the_server_listens_on_this_machine_alone(shared: Platform) -> None:
    import psutil

    pid = shared.serving.server.pid()
    found = [c.laddr for c in psutil.Process(pid).connections() if c.status == psutil.CONN_LISTEN]
    assert {address.ip for address in found} == {"127.0.0.1"}


def test_the_server_survives_the_run_and_ends_when_told(deployed: Platform) -> None:
    server = deployed.serving.server
    assert server.pid() is not None
    assert server.stop()
    deadline = time.monotonic() + 10
    while server.answers() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not server.answers()
