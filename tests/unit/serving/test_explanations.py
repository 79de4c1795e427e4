"""The route that explains, at its limits; what it says of trained models is in tests/unit/cli/test_explain.py."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.serving.declaration import Declaration, ServedVersion
from mlops_assets.serving.explanations import MAX_ROWS
from mlops_assets.serving.limits import LARGE_BODY, Limits
from tests.unit.serving.test_routes import Client

if TYPE_CHECKING:
    from pathlib import Path

EXPLAIN = "/v1/models/m:explain"


class ExplainingClient(Client):
    """Asks a server whose model `m` doubles its one number, and is explained."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        super().__init__(folder, limits)
        [model] = self.state.repository.models.values()
        version = ServedVersion(folder="1", sha256=model.served.sha256, version="1", explain=True)
        Declaration(champion=version).write(folder / "m")
        self.state.repository.load("m")


@pytest.fixture
def client(tmp_path: Path) -> ExplainingClient:
    return ExplainingClient(tmp_path)


def test_base_and_attributions_add_up(client: ExplainingClient) -> None:
    code, headers, body = client.raw(EXPLAIN, b'{"instances": [{"x": 2}, {"x": 5}], "id": "a"}')
    assert (code, headers["x-model-version"], headers["x-request-id"]) == (200, "1", "a")
    answer: dict[str, Any] = json.loads(body)
    assert answer | {"explanations": None} == {
        "model_name": "m",
        "model_version": "1",
        "id": "a",
        "explanations": None,
    }
    # The golden rows, of which the usual answer is the mean, are 1 and 3
    assert answer["explanations"] == [
        {"value": 4, "base_value": 4, "attributions": {"x": 0}},
        {"value": 10, "base_value": 4, "attributions": {"x": 6}},
    ]


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        (b"", 400, "not JSON"),
        (b"[]", 400, "must be a JSON object"),
        (b"{}", 400, '"instances" must be a list'),
        (b'{"instances": []}', 400, '"instances" must be a list'),
        (b'{"instances": [{"x": "a"}]}', 400, "must be a number"),
        (b'{"instances": [{"x": 1e99}]}', 400, "too large"),
        (b'{"instances": [{"y": 1}]}', 400, "column x is missing"),
        (b'{"instances": [{"x": 1}], "id": 7}', 400, "the id is 7"),
        (b'{"instances": [{"x": 1}], "label": "a"}', 400, "has no classes"),
        (b'{"instances": [%s]}' % b",".join([b'{"x": 1}'] * (MAX_ROWS + 1)), 400, f"at most {MAX_ROWS} are explained"),
        (b" " * (LARGE_BODY + 1), 413, "larger than 64 KiB"),
        (b"\xff\xfe" * 100, 400, "not JSON"),
        (b"[" * 5_000, 400, "not JSON"),
    ],
)
def test_what_does_not_fit_is_refused(client: ExplainingClient, body: bytes, code: int, told: str) -> None:
    found, answer = client.post(EXPLAIN, body)
    assert (found, told in answer["error"]) == (code, True), answer


def test_other_methods_and_other_models_are_refused(client: ExplainingClient) -> None:
    assert client.post(EXPLAIN, method="GET")[0] == 405
    assert client.post("/v1/models/n:explain", b"{}") == (404, {"error": "there is no model 'n' here"})


def test_only_so_many_are_explained_at_a_time(tmp_path: Path) -> None:
    client = ExplainingClient(tmp_path, Limits(held_bodies=0))
    code, headers, _ = client.raw(EXPLAIN, b'{"instances": [{"x": 2}]}')
    assert (code, headers["retry-after"]) == (503, "1")


def test_without_the_yamls_consent_there_is_no_explanation(tmp_path: Path) -> None:
    code, answer = Client(tmp_path).post(EXPLAIN, b'{"instances": [{"x": 2}]}')
    assert (code, answer["error"]) == (404, "m is not explained; its YAML says so by deploy.explain: true")


def test_what_is_packed_is_explained_too(client: ExplainingClient) -> None:
    packed = gzip.compress(b'{"instances": [{"x": 5}]}')
    code, answer = client.post(EXPLAIN, packed, headers={"content-encoding": "gzip"})
    assert (code, answer["explanations"][0]["value"]) == (200, 10)
    assert client.post(EXPLAIN, packed, headers={"content-encoding": "br"})[0] == 415
    bomb = gzip.compress(b" " * (LARGE_BODY + 1))
    assert client.post(EXPLAIN, bomb, headers={"content-encoding": "gzip"})[0] == 413
