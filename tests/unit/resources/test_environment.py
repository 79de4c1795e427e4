"""The environment: what its variables say, and what is wrong with them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.ml.errors import SpecError
from resources import environment
from resources.environment import Environment, git_commit

PROJECT = Path(__file__).parents[3]
PRODUCTION = {
    "MLOPS_ENV": "production",
    "LAKE_URI": "s3://lake",
    "MLFLOW_TRACKING_URI": "http://mlflow",
    "MLOPS_PREDICTOR_IMAGE": "shop/predictor:1",
    "MLOPS_TRAINER_IMAGE": "shop/trainer:1",
}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"MLOPS_GATEWAY": "public"}, "MLOPS_GATEWAY is 'public', which names no Gateway; give namespace/name"),
        ({"MLOPS_PROMETHEUS_URL": "prometheus"}, "give an address such as"),
        ({"MLOPS_ENV": "cloud"}, "set it to local .* or production"),
        ({"MLOPS_ENV": "production"}, "needs LAKE_URI, MLFLOW_TRACKING_URI, MLOPS_PREDICTOR_IMAGE, MLOPS_TRAINER"),
        ({"SERVING_PORT": "http"}, "SERVING_PORT is 'http'; give a port"),
        ({"MLFLOW_TRACKING_URI": "http://me:secret@mlflow"}, r"^MLFLOW_TRACKING_URI holds a login, [^@]*PASSWORD\.$"),
        ({"MLFLOW_UI_URL": "https://me:secret@mlflow"}, r"^MLFLOW_UI_URL holds a login, [^@]*PASSWORD\.$"),
        ({"EXPORTER_PORT": "8085"}, "SERVING_PORT and EXPORTER_PORT are both 8085; give each its own"),
        ({"MLFLOW_PORT": "70000"}, "MLFLOW_PORT is '70000'"),
        ({"MLFLOW_PORT": "\u0663\u0663\u0663"}, "MLFLOW_PORT is '\u0663"),
        ({"LAKE_URI": "s3://lake\n"}, "^LAKE_URI begins or ends with .* a line's end; .* echo -n"),
        (
            {"MLFLOW_TRACKING_PASSWORD": "kept\n", "LAKE_URI": " a"},
            "^LAKE_URI, MLFLOW_TRACKING_PASSWORD begins(?!.*kept)",
        ),
        ({"MLFLOW_TRACKING_URI": "mlflow:5000"}, "MLFLOW_TRACKING_URI is 'mlflow:5000'; give an address such as https"),
        ({"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}, "MLFLOW_TRACKING_URI is 'sqlite"),
        ({"MLFLOW_UI_URL": "javascript:alert(1)"}, "MLFLOW_UI_URL is 'javascript"),
        ({"AWS_ENDPOINT_URL_S3": "moto:5000"}, "AWS_ENDPOINT_URL_S3 is 'moto:5000'"),
        ({"SERVING_URL": "{service}.example.com"}, "SERVING_URL is .* with https:// or http://"),
        ({"SERVING_URL": "https://{service}-{model}.com"}, r"SERVING_URL is .*\{service\} and \{namespace\} alone"),
        (
            PRODUCTION | {"MLOPS_TRAINER_IMAGE": "shop:5000/trainer"},
            "names no version; give a tag .* shop:5000/trainer:1",
        ),
        (PRODUCTION | {"MLOPS_PREDICTOR_IMAGE": "a b:1"}, "MLOPS_PREDICTOR_IMAGE is 'a b:1'"),
        ({"MLOPS_PREDICTOR_REPLICAS": "\u00b2"}, "MLOPS_PREDICTOR_REPLICAS is '\u00b2'"),
        ({"MLOPS_PREDICTOR_REPLICAS": "9" * 20}, "MLOPS_PREDICTOR_REPLICAS is '9"),
        ({"SERVING_URL": "https://models"}, r"SERVING_URL is 'https://models'.*write \{service\}"),
        ({"SERVING_OPERATOR": "knative"}, r"SERVING_OPERATOR is 'knative'; set it to kserve .* or seldon"),
        ({"MLOPS_PREDICTOR_REPLICAS": "0"}, "MLOPS_PREDICTOR_REPLICAS is '0'"),
        ({"MLOPS_ALERT_WEBHOOK": "hooks.slack.com/services/kept"}, r"^MLOPS_ALERT_WEBHOOK is no[^k]*; give[^k]*\.$"),
        ({"MLOPS_ALERT_MAIL": "smtps://me:kept@mail.example.com"}, r"^MLOPS_ALERT_MAIL is no[^k]*; give smtps:[^k]*$"),
        ({"MLOPS_SPACE": "Ann"}, "MLOPS_SPACE is 'Ann'; give a letter, .*, such as ann"),
        ({"MLOPS_SPACE": "ann--lee"}, "MLOPS_SPACE is 'ann--lee'"),
        ({"MLOPS_SPACE": "../ledger"}, r"MLOPS_SPACE is '\.\./ledger'"),
        ({"MLOPS_PREFIX": "Team B"}, "MLOPS_PREFIX is 'Team B'; give small letters"),
        (
            {"MLOPS_FEATURES_DATABASE": "postgresql://me:secret@host"},
            "^MLOPS_FEATURES_DATABASE is no address of a PostgreSQL database; give all of it(?!.*secret)",
        ),
        ({"MLOPS_FEATURES_PORT": "0"}, "MLOPS_FEATURES_PORT is '0'; give a port"),
        ({"MLOPS_FEATURES_GRPC_PORT": "x"}, "MLOPS_FEATURES_GRPC_PORT is 'x'; give a port"),
        ({"MLOPS_QUEUE": "Trainings!"}, "MLOPS_QUEUE is 'Trainings!', .*; give the name of the LocalQueue"),
        ({"MLOPS_PREDICTOR_REPLICAS": "two"}, "MLOPS_PREDICTOR_REPLICAS is 'two'"),
    ],
)
def test_wrong_environment_variables_are_told(variables: dict[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Environment.read(variables)


def test_without_variables_everything_lies_below_one_folder_of_this_machine(tmp_path: Path) -> None:
    found = Environment.read({"MLOPS_HOME": str(tmp_path)})
    assert (found.home, found.lake_uri, found.state) == (tmp_path, str(tmp_path / "lake"), tmp_path / "run")
    assert (found.mlflow_uri, found.s3_endpoint_url, found.predictor_image) == (None, None, None)
    assert not found.production
    assert found.lake().cache == str(tmp_path / "cache")
    assert Environment.read({}).home == PROJECT / ".mlops"


def test_variables_name_shared_systems() -> None:
    found = Environment.read(PRODUCTION | {"AWS_ENDPOINT_URL_S3": "http://s3", "SERVING_PORT": "9000"})
    assert found.production
    assert (found.lake_uri, found.mlflow_uri) == ("s3://lake", "http://mlflow")
    assert (found.predictor_image, found.trainer_image) == ("shop/predictor:1", "shop/trainer:1")
    assert (found.s3_endpoint_url, found.serving_port) == ("http://s3", 9000)
    assert Environment.read(PRODUCTION | {"MLOPS_QUEUE": "trainings"}).queue == "trainings"
    assert found.queue is None


SHARED = {"LAKE_URI": "s3://lake", "MLFLOW_TRACKING_URI": "http://mlflow"}


@pytest.mark.parametrize(
    ("variables", "space", "owns"),
    [
        ({}, "", True),
        ({"LAKE_URI": "s3://lake"}, "ann", True),
        ({"MLFLOW_TRACKING_URI": "http://mlflow"}, "ann", True),
        (SHARED | {"MLOPS_SPACE": ""}, "ann", True),
        (SHARED | {"MLOPS_SPACE": "new-features"}, "new-features", True),
        (SHARED | {"MLOPS_SPACE": "production"}, "", False),
        ({"MLOPS_SPACE": "new-features"}, "new-features", True),
        ({"MLOPS_SPACE": "production"}, "", True),
        (PRODUCTION, "", True),
        (PRODUCTION | {"MLOPS_SPACE": "new-features"}, "new-features", True),
    ],
)
def test_who_shares_has_a_space_of_their_own_and_production_has_that_without_a_name(
    variables: dict[str, str], space: str, owns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    found = Environment.read(variables)
    assert (found.space, found.owns_space) == (space, owns)
    assert (found.lake().space, found.lake().owns_space) == (space, owns)


def test_the_lake_that_is_there_without_a_variable_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    assert Environment.read({"MLOPS_HOME": "/home/ann/m", "LAKE_URI": "/home/ann/m/lake"}).space == ""


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    assert Environment.read(SHARED).space == "uid4000000"


def test_an_image_is_named_by_its_tag_or_its_digest() -> None:
    for image in ("shop:5000/team/trainer:1.0-rc.1", f"shop/trainer@sha256:{'0' * 64}"):
        assert Environment.read(PRODUCTION | {"MLOPS_TRAINER_IMAGE": image}).trainer_image == image


def test_an_image_alone_makes_no_production() -> None:
    assert not Environment.read({"MLOPS_PREDICTOR_IMAGE": "shop/predictor:1"}).production


def test_the_local_mlflow_server_has_the_port_that_is_asked_for(tmp_path: Path) -> None:
    server = Environment.read({"MLOPS_HOME": str(tmp_path), "MLFLOW_PORT": "5678"}).mlflow_server()
    assert server.url == "http://127.0.0.1:5678"
    assert f"{tmp_path}/mlflow/mlflow.db" in server.command


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    names: tuple[str, ...] = ("MLOPS_ENV", "MLOPS_HOME", "LAKE_URI", "MLFLOW_TRACKING_URI", "SERVING_PORT")
    assert Environment.read(dict.fromkeys(names, "")) == Environment.read({})


def test_two_servers_on_one_port_are_told() -> None:
    with pytest.raises(SpecError, match="MLFLOW_PORT and SERVING_PORT are both 9000; give each its own"):
        Environment.read({"MLFLOW_PORT": "9000", "SERVING_PORT": "9000"})


def test_every_variable_that_is_read_is_documented() -> None:
    class Recorded(dict[str, str]):
        """Variables that keep which of them were asked for."""

        def get(self, name: str, default: Any = None) -> Any:
            asked.add(name)
            return super().get(name, default)

        def __getitem__(self, name: str) -> str:
            asked.add(name)
            return super().__getitem__(name)

    asked: set[str] = set()
    Environment.read(Recorded())
    Environment.read(Recorded(PRODUCTION))
    pages = "".join((PROJECT / "docs" / f"{name}.md").read_text() for name in ("production/settings", "operations"))
    assert len(asked) >= 8
    assert [name for name in sorted(asked) if f"`{name}" not in pages] == []


def test_the_commit_is_known_in_a_work_tree_and_unknown_elsewhere(tmp_path: Path, monkeypatch: Any) -> None:
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?", git_commit())
    monkeypatch.setattr(environment, "PROJECT", tmp_path)
    assert git_commit() == "unknown"
    assert git_commit({"MLOPS_REVISION": "a" * 40}) == "a" * 40
