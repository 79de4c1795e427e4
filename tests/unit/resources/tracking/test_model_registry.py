"""The registry on a real MLflow server: what others do there, what is lost on the way, and several at once."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from mlops_assets.ml.errors import TrackingRefused
from mlops_assets.ml.inference.artifact import MAX_BYTES, ModelSignature
from resources.tracking.mlflow_tracking import Tracking
from tests.artifacts import write_artifact
from tests.fault_proxy import Fault, fault_proxy
from tests.support import dagster_run

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow import MlflowClient

    from resources.lake.lake import Lake
    from resources.tracking.model_registry import RegisteredVersion


def register(tracking: Tracking, model: str, folder: Path, factor: float = 3.0) -> RegisteredVersion:
    """Register an artifact as the stage does."""
    artifact = folder / uuid.uuid4().hex
    write_artifact(artifact, factor=factor)
    digest = ModelSignature.read(artifact).sha256
    with tracking.run(model, dagster_run()) as run:
        run.files(artifact, "model")
        return tracking.register(model, run, "model", {"sha256": digest}, "")


def foreign_version(client: MlflowClient, model: str, *, run: bool = True, tags: dict[str, str] | None = None) -> str:
    """A version that somebody has registered by hand."""
    experiment = client.get_experiment_by_name(model)
    assert experiment is not None
    if not run:
        return str(client.create_model_version(model, "s3://theirs/model", tags=tags).version)
    found = client.create_run(experiment.experiment_id).info
    client.log_text(found.run_id, "pickle", "model/model.pkl")
    return str(client.create_model_version(model, f"{found.artifact_uri}/model", found.run_id, tags=tags).version)


def test_of_several_that_register_one_digest_one_does(tracking: Tracking, model: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        versions = list(pool.map(lambda _: register(tracking, model, tmp_path), range(3)))
    assert {version.version for version in versions} == {1}
    assert len(tracking.client.search_model_versions(f"name = '{model}'")) == 1
    assert register(tracking, model, tmp_path, factor=4.0).version == 2


@pytest.mark.parametrize("fault", ["lose the answer", "lose the request", "503"])
def test_a_version_whose_answer_was_lost_is_there_once(
    mlflow_uri: str, lake: Lake, model: str, tmp_path: Path, fault: Fault
) -> None:
    with fault_proxy(mlflow_uri) as proxy:
        tracking = Tracking(uri=proxy.url, lake=lake)
        proxy.spoil("POST", "model-versions/create", fault)
        made = register(tracking, model, tmp_path)
        assert tracking.by_alias(model, "champion") is None
        assert [version.version for version in tracking.client.search_model_versions(f"name = '{model}'")] == ["1"]
        assert tracking.version_of(model, made.sha256) == made


def test_the_ledger_has_the_moves_in_the_order_of_the_alias(tracking: Tracking, model: str, tmp_path: Path) -> None:
    versions = [register(tracking, model, tmp_path, factor) for factor in (1.0, 2.0, 3.0)]

    def move(version: RegisteredVersion) -> None:
        tracking.move_alias(version, "champion", "because", "me", {})

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(move, versions * 3))
    entries = tracking.lake.entries(f"{model}/ledger")
    champion = tracking.by_alias(model, "champion")
    assert champion is not None
    assert entries[-1]["version"] == champion.version
    befores = [None, *[entry["version"] for entry in entries[:-1]]]
    assert [entry["previous_version"] for entry in entries] == befores
    assert [entry["number"] for entry in entries] == list(range(1, len(entries) + 1))


@pytest.mark.parametrize(
    ("run", "tags"), [(False, None), (True, None), (True, {"sha256": "x"}), (False, {"sha256": "a" * 64})]
)
def test_an_alias_on_a_foreign_version_is_told(
    tracking: Tracking, client: MlflowClient, model: str, tmp_path: Path, run: bool, tags: dict[str, str] | None
) -> None:
    ours = register(tracking, model, tmp_path)
    version = foreign_version(client, model, run=run, tags=tags)
    client.set_registered_model_alias(model, "champion", version)
    told = rf"Version 2 of {model}, which has the alias champion in MLflow, was not registered here: .*; take the alias"
    with pytest.raises(TrackingRefused, match=told):
        tracking.by_alias(model, "champion")
    with pytest.raises(TrackingRefused, match=told):
        tracking.check(model)
    client.set_registered_model_alias(model, "champion", "1")
    assert tracking.by_alias(model, "champion") == ours


def test_a_version_is_found_by_its_number(tracking: Tracking, client: MlflowClient, model: str, tmp_path: Path) -> None:
    ours = register(tracking, model, tmp_path)
    foreign_version(client, model)
    assert tracking.numbered(model, 1) == ours
    assert tracking.numbered(model, 3) is None
    assert tracking.numbered(f"{model}x", 1) is None
    with pytest.raises(TrackingRefused, match=f"Version 2 of {model} in MLflow was not registered here: .*; name a"):
        tracking.numbered(model, 2)


def test_a_version_whose_tag_lies_is_not_the_known_one(
    tracking: Tracking, client: MlflowClient, model: str, tmp_path: Path
) -> None:
    ours = register(tracking, model, tmp_path)
    foreign_version(client, model, tags={"sha256": ours.sha256})
    foreign_version(client, model, run=False, tags={"sha256": ours.sha256})
    assert tracking.version_of(model, ours.sha256) == ours
    other = register(tracking, model, tmp_path, factor=9.0)
    client.set_model_version_tag(model, str(other.version), "sha256", ours.sha256)
    assert tracking.version_of(model, ours.sha256) == ours


def test_a_version_without_the_artifact_is_told(
    tracking: Tracking, client: MlflowClient, model: str, tmp_path: Path
) -> None:
    register(tracking, model, tmp_path)
    version = foreign_version(client, model, tags={"sha256": "a" * 64})
    client.set_registered_model_alias(model, "champion", version)
    champion = tracking.by_alias(model, "champion")
    assert champion is not None
    with pytest.raises(
        TrackingRefused, match=rf"Version 2 of {model} in MLflow has no file model/model\.onnx in its run"
    ):
        tracking.download(champion, tmp_path)


def test_each_space_has_versions_and_aliases_of_its_own(
    mlflow_uri: str, tracking: Tracking, lake: Lake, model: str, tmp_path: Path
) -> None:
    ann = Tracking(uri=mlflow_uri, lake=lake.model_copy(update={"space": "ann"}))
    for tracked, factor in ((tracking, 3.0), (tracking, 4.0), (ann, 3.0)):
        version = register(tracked, model, tmp_path, factor)
        tracked.move_alias(version, "champion", "first", "me", {})
    theirs, others = ann.by_alias(model, "champion"), tracking.by_alias(model, "champion")
    assert theirs is not None
    assert others is not None
    assert (theirs.model, theirs.version, others.version) == (model, 1, 2)
    assert ann.version_of(model, theirs.sha256) == theirs
    assert ann.tags_of(theirs)["sha256"] == theirs.sha256
    assert ann.version_url(theirs).endswith(f"/#/models/ann--{model}/versions/1")
    by_space = {space: [one.version for one in found] for space, found in ann.versions_by_space(model).items()}
    assert by_space == {"": [2, 1], "ann": [1]}

    assert ann.remove_alias(model, "champion", "enough", "me") == 1
    assert ann.by_alias(model, "champion") is None
    assert tracking.by_alias(model, "champion") == others
    assert [entry["version"] for entry in ann.lake.entries(f"{model}/ledger")] == [1, None]
    assert [entry["version"] for entry in lake.entries(f"{model}/ledger")] == [1, 2]


def test_the_models_of_a_space_are_listed_by_their_own_names(
    mlflow_uri: str, tracking: Tracking, lake: Lake, model: str, tmp_path: Path
) -> None:
    ann = Tracking(uri=mlflow_uri, lake=lake.model_copy(update={"space": model.replace("_", "-")}))
    with ann.run(model, dagster_run()) as run:
        write_artifact(tmp_path / "artifact")
        run.files(tmp_path / "artifact", "model")
        digest = ModelSignature.read(tmp_path / "artifact").sha256
        ann.register(model, run, "model", {"sha256": digest, "snapshot": "m/trained_model/1"}, "")
    assert list(ann.models()) == [model]
    assert model not in tracking.models()


def test_a_file_beside_the_artifact_is_logged_once_and_read_back_by_its_digest(
    tracking: Tracking, model: str, tmp_path: Path
) -> None:
    version, file = register(tracking, model, tmp_path), tmp_path / "reference_profile.json"
    assert tracking.numbered(model, version.version) == version
    assert tracking.numbered(model, 99) is None
    assert tracking.file_of(version, file.name, tmp_path / "none") is None
    for content in ("first", "second"):
        file.write_text(content)
        tracking.add_file(version, file)
    (tmp_path / "found").mkdir()
    found = tracking.file_of(version, file.name, tmp_path / "found")
    assert found is not None
    assert found.read_text() == "first"
    assert {path.name for path in tracking.download(version, tmp_path / "found").iterdir()} == set(MAX_BYTES)


def test_a_file_that_is_not_the_one_that_was_logged_is_refused(tracking: Tracking, model: str, tmp_path: Path) -> None:
    version, file = register(tracking, model, tmp_path), tmp_path / "reference_profile.json"
    file.write_text("ours")
    tracking.add_file(version, file)
    file.write_text("theirs")
    tracking.client.log_artifact(version.run_id, str(file), "model")
    with pytest.raises(TrackingRefused, match=r"not the file that was logged; take the tag reference_profile\.sha256"):
        tracking.file_of(version, file.name, tmp_path)
