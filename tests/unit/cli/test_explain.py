"""Why a request was answered as it was, asked on the whole platform when the answer has long been given."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from mlops_assets.cli.program import main
from tests.support import Platform, messages, post, weather

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result

ROW = {"place": "Bern", "pressure": 990.0, "humidity": None}
DRY = {"place": "Zürich", "pressure": 1040.0, "humidity": 21.0}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, mlflow_uri: str) -> Iterator[tuple[Platform, dict[str, Any]]]:
    """A model that has answered, and what it was asked to explain itself."""
    platform = Platform(tmp_path_factory.mktemp("platform"), mlflow_uri)
    platform.put(weather(200))
    result = platform.run(platform.spec(deploy={"explain": True}))
    assert result.success, messages(result)
    url = f"{platform.serving.server.url}/v1/models/{platform.model}"
    assert post(f"{url}:predict", {"id": "one", "instances": [ROW, DRY]})[0] == 200
    code, explained = post(f"{url}:explain", {"id": "mine", "instances": [ROW, DRY]})
    assert code == 200
    platform.serving.server.stop()  # it stores what it holds
    yield platform, explained


@pytest.fixture(autouse=True)
def here(asked: tuple[Platform, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    platform = asked[0]
    variables = {"MLOPS_HOME": str(platform.home), "MLFLOW_TRACKING_URI": platform.mlflow_uri}
    for name, value in (variables | {"MLOPS_SPACE": "production"}).items():
        monkeypatch.setenv(name, value)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["explain", *arguments])


def explained(*arguments: str) -> dict[str, Any]:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_an_answer_of_then_is_explained_as_its_server_did(asked: tuple[Platform, dict[str, Any]]) -> None:
    platform, by_server = asked
    for row, given in enumerate((ROW, DRY)):
        found = explained("one", "--row", str(row), "--model", platform.model)
        assert (found["model"], found["version"], found["row"]) == (platform.model, "1", row)
        assert found["inputs"] == given
        server = by_server["explanations"][row]
        assert found["explanation"] | {"attributions": None} == pytest.approx(server | {"attributions": None})
        assert found["explanation"]["attributions"] == pytest.approx(server["attributions"])
    assert by_server["id"] == "mine"


def test_columns_that_another_version_had_otherwise_on_that_day_change_nothing(
    asked: tuple[Platform, dict[str, Any]],
) -> None:
    platform = asked[0]
    before = explained("one", "--model", platform.model)
    other = {"request_id": ["two"], "version": ["0"], "input:Pressure": ["high"], "digest:place": ["0af3"]}
    file, now = io.BytesIO(), datetime.now(UTC)
    pq.write_table(pa.table(other), file)
    key = f"inference/{platform.model}/{now:%Y/%m/%d}/00/a-00000001.parquet"  # read first, and named by it
    platform.lake.store.replace(key, file.getvalue())
    try:
        assert explained("one", "--model", platform.model) == before
    finally:
        platform.lake.store.delete_many([key])


def test_attributions_and_what_is_usual_add_up_and_point_the_right_way() -> None:
    wet, dry = explained("one")["explanation"], explained("one", "--row", "1", "--label", "True")["explanation"]
    for each in (wet, dry):
        assert each["base_value"] + sum(each["attributions"].values()) == pytest.approx(each["value"], abs=1e-6)
    assert repr(wet["label"]) == "1"
    assert wet["attributions"]["pressure"] > 0 > dry["attributions"]["pressure"]


def test_people_read_the_columns_that_mattered_most_first() -> None:
    lines = call("one").output.splitlines()
    assert lines[0].startswith("Request one, row 0: version 1 of weather_")
    assert lines[1].split()[:3] == ["probability", "of", "1"]
    moved = [abs(float(line.split()[-1])) for line in lines[3:]]
    assert moved == sorted(moved, reverse=True)
    assert any(line.split()[:3] == ["humidity", "=", "missing"] for line in lines)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("none",), "has no request none"),
        (("one", "--row", "2"), "Request one has no row 2; its rows are 0 to 1"),
        (("one", "--label", "snow"), "label is 'snow', but must be one of 0, 1"),
        (("one", "--row", "-1"), "-1 is not in the range"),
    ],
)
def test_what_cannot_be_explained_is_said(arguments: tuple[str, ...], told: str) -> None:
    result = call(*arguments)
    assert result.exit_code != 0
    assert told in result.output


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ({"leave_out": ["place"]}, "The inference log does not keep place"),
        ({"hash": ["place"]}, "keeps a digest of place alone"),
    ],
)
def test_what_the_log_does_not_keep_cannot_be_explained(
    tmp_path_factory: pytest.TempPathFactory,
    mlflow_uri: str,
    monkeypatch: pytest.MonkeyPatch,
    policy: dict[str, Any],
    told: str,
) -> None:
    platform = Platform(tmp_path_factory.mktemp("platform"), mlflow_uri)
    monkeypatch.setenv("MLOPS_HOME", str(platform.home))
    monkeypatch.setenv("MLOPS_LOG_SALT", "salt")
    platform.put(weather(200))
    result = platform.run(platform.spec(deploy={"inference_log": policy}))
    assert result.success, messages(result)
    url = f"{platform.serving.server.url}/v1/models/{platform.model}"
    assert post(f"{url}:predict", {"id": "two", "instances": [DRY]})[0] == 200
    refused = post(f"{url}:explain", {"instances": [DRY]})
    platform.serving.server.stop()
    assert refused == (404, {"error": f"{platform.model} is not explained; its YAML says so by deploy.explain: true"})
    result = call("two", "--model", platform.model)
    assert (result.exit_code, told in result.output) == (1, True), result.output
