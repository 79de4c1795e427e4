"""From an answer back to the source objects, on the whole platform, also where some of the way is gone."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from click.testing import CliRunner

from mlops_assets.assets.inference_log import inference_log_asset
from mlops_assets.cli.program import main
from tests.support import Platform, messages, post, weather

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result

ROW = {"place": "Bern", "pressure": 990.0, "humidity": None}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, mlflow_uri: str) -> Iterator[Platform]:
    """A model in a space of its own that was trained on two objects, and has stored what it was asked."""
    platform = Platform(tmp_path_factory.mktemp("platform"), mlflow_uri, space="ann")
    platform.put(weather(200))
    platform.put(weather(50, seed=3), "b.csv")
    result = platform.run(tags={"user": "ann"})
    assert result.success, messages(result)
    url = f"{platform.serving.server.url}/v1/models/ann--{platform.model}:predict"
    for request_id, rows in (("one", 1), ("two", 2)):
        assert post(url, {"id": request_id, "instances": [ROW] * rows})[0] == 200
    platform.serving.server.stop()  # it stores what it holds
    yield platform
    platform.serving.server.stop()


@pytest.fixture
def here(asked: Platform, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """The environment of this process is that of the model's."""
    variables = {"MLOPS_HOME": str(asked.home), "MLFLOW_TRACKING_URI": asked.mlflow_uri, "MLOPS_SPACE": "ann"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return asked


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def lineage(*arguments: str) -> dict[str, Any]:
    result = call("lineage", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_an_answer_leads_to_the_objects_it_was_learned_from(here: Platform) -> None:
    found = lineage("two")
    request, [version] = found["request"], found["versions"]
    assert (request["request_id"], request["model"]) == ("two", here.model)
    [answer] = request["answers"]
    assert (answer["version"], answer["role"], answer["rows"]) == ("1", "champion", 2)
    assert version["champion"]["actor"] == "user ann"
    made = version["provenance"]
    tags = here.tracking.versions(here.model)[0].tags
    assert (made["model"], made["version"], made["sha256"]) == (here.model, "1", tags["sha256"])
    assert (made["dagster_run"], made["git_commit"]) == (tags["dagster_run_id"], tags["git_commit"])
    assert made["mlflow_version"].endswith(f"/#/models/ann--{here.model}/versions/1")
    assert here.tracking.client.get_run(made["mlflow_run"]).data.tags["mlops.model"] == here.model
    assert {item["stage"]: item["is_there"] for item in made["snapshots"]} == dict.fromkeys(
        ("prepared_data", "features", "trained_model", "evaluation"), True
    )
    for item in made["snapshots"]:
        assert here.lake.find(*item["snapshot"].rsplit("/", 1)) is not None
    listed = {item.key: item.etag for item in here.lake.list_sources("weather/*.csv")}
    assert {item["key"]: item["etag"] for item in made["objects"]} == listed
    assert len(listed) == 2
    assert [what for what in made["missing"] if "commit" not in what] == []


def test_the_page_of_the_deployment_shows_it_too(asked: Platform) -> None:
    [event] = asked.instance.fetch_materializations(dg.AssetKey([asked.model, "deployment"]), limit=1).records
    shown = {name: value.value for name, value in (event.asset_materialization or pytest.fail()).metadata.items()}
    assert shown["made_by_run"] == event.run_id
    assert "| trained_model | " in shown["made_from"]
    assert shown["git_commit"]
    assert [item["key"] for item in shown["source_objects"]] == ["weather/a.csv", "weather/b.csv"]


def test_people_read_the_same(here: Platform) -> None:
    result = call("lineage", "one", "--model", here.model, "--day", f"{datetime.now(UTC):%Y-%m-%d}")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == f"Request one asked {here.model}"
    assert lines[1].split()[:4] == ["champion", "version", "1", "at"]
    assert lines[2] == f"Version 1 of {here.model}"
    assert lines[3].split()[:2] == ["champion", "since"]
    assert lines[3].endswith("by user ann: there is no champion yet in the space ann")
    [source] = [line for line in lines if line.split()[0] == "source"]
    assert source.endswith("weather/*.csv, 2 objects")
    assert [line.split()[0] for line in lines if " ETag " in line] == ["weather/a.csv", "weather/b.csv"]


def test_a_day_with_a_table_is_read_from_it_and_what_came_later_from_the_servers_files(here: Platform) -> None:
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    asset = inference_log_asset(here.spec())
    assert dg.materialize([asset], resources={"lake": here.lake}, instance=here.instance, partition_key=day).success
    for request_id in ("one", "two"):
        assert lineage(request_id)["request"]["answers"][0]["version"] == "1"
    here.serving.server.ensure_running()
    url = f"{here.serving.server.url}/v1/models/ann--{here.model}:predict"
    assert post(url, {"id": "later", "instances": [ROW]})[0] == 200
    here.serving.server.stop()
    assert lineage("later")["request"]["day"] == day
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
    result = call("lineage", "one", "--day", yesterday)
    assert result.exit_code == 1
    assert f"has no request one on {yesterday}" in result.output


def test_what_is_gone_is_said(here: Platform) -> None:
    def missing() -> str:
        return " | ".join(lineage("one")["versions"][0]["provenance"]["missing"])

    made = lineage("one")["versions"][0]["provenance"]
    kept = dict[str, bytes]()

    def remove(key: str) -> None:
        kept[key] = here.lake.store.read(key) or b""
        here.lake.store.delete(key)

    features = f"{made['snapshots'][1]['snapshot']}/manifest.json"
    remove(features)
    assert f"the lake has no snapshot {features.removesuffix('/manifest.json')} any more" in missing()
    handles = here.lake.own(f"{here.model}/raw_data/handles")
    remove(f"{handles}/{made['dagster_run']}.json")
    assert "source objects" not in missing()  # another run has found the same objects
    remove(f"{handles}/latest.json")
    assert "the lake has no list of the source objects any more" in missing()
    result = call("lineage", "one")
    assert result.exit_code == 0
    assert "not known          the lake has no list of the source objects" in result.output
    for key, content in kept.items():
        here.lake.store.replace(key, content)


def test_a_version_that_mlflow_has_no_more_is_known_by_the_ledger(
    here: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.tracking.mlflow_tracking.Tracking.numbered", lambda *_: None)
    made = lineage("one")["versions"][0]["provenance"]
    assert made["sha256"] == here.lake.entries(f"{here.model}/ledger")[0]["sha256"]
    assert made["missing"] == [
        f"MLflow has no version 1 of {here.model} any more, so nothing leads to its run and data"
    ]


def test_labels_of_a_table_are_those_of_the_day(here: Platform, tmp_path: Any) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("request_id,row,label\none,0,true\ntwo,1,0\n")
    result = call("feedback", here.model, str(file))
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"{here.model}: 2 labels are stored in labels/ann--{here.model}/")
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    asset = inference_log_asset(here.spec())
    done = dg.materialize([asset], resources={"lake": here.lake}, instance=here.instance, partition_key=day)
    [event] = done.asset_materializations_for_node(asset.node_def.name)
    assert event.metadata["labelled"].value == 2
    file.write_text("request_id,label\none,snow\n")
    refused = call("feedback", here.model, str(file))
    assert refused.exit_code == 1
    assert "row 1: label is 'snow', but must be one of 0, 1; correct the file; nothing was stored" in refused.output
