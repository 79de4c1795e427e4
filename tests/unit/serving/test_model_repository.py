"""What a server serves: what is declared, and of that only what is sound."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import pytest

from mlops_assets.ml.errors import ArtifactError
from mlops_assets.serving.declaration import Declaration, ServedVersion
from mlops_assets.serving.model_repository import Repository
from tests.artifacts import write_artifact

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository of model `m`, of which nothing is declared yet."""
    (tmp_path / "m").mkdir()
    return Repository(tmp_path)


def stored(repository: Repository, version: int, model: str = "m") -> ServedVersion:
    """A version whose artifact is there."""
    folder = repository.folder / model / str(version)
    return ServedVersion(folder=folder.name, sha256=write_artifact(folder, version).sha256, version=str(version))


def declare(
    repository: Repository, champion: ServedVersion | None = None, candidate: ServedVersion | None = None
) -> None:
    Declaration(champion=champion, candidate=candidate).write(repository.folder / "m")


def damage(repository: Repository, version: ServedVersion) -> None:
    graph = repository.folder / "m" / version.folder / "model.onnx"
    graph.write_bytes(graph.read_bytes() + b"x")


def served(repository: Repository) -> dict[str, str]:
    return {name: model.served.version for name, model in repository.models.items()}


def test_a_version_that_is_replaced_needs_no_garbage_collection_to_go(repository: Repository) -> None:
    """The server looks for no garbage in what there was when it began, its first versions among it."""
    declare(repository, stored(repository, 1))
    repository.load("m")
    repository.models["m"].predict_v1(b'{"instances": [{"x": 1.5}]}', None, None)
    first = weakref.ref(repository.models["m"].onnx)
    declare(repository, stored(repository, 2))
    gc.collect()
    gc.disable()
    try:
        repository.load("m")
        assert (served(repository), first()) == ({"m": "2"}, None)
    finally:
        gc.enable()


def test_champion_and_candidate_are_served_by_a_repository_of_their_own(repository: Repository) -> None:
    declare(repository, stored(repository, 1), stored(repository, 2))
    candidates = Repository(repository.folder, of_candidates=True)
    for each in (repository, candidates):
        each.load("m")
    assert (served(repository), served(candidates)) == ({"m": "1"}, {"m": "2"})


def test_a_server_that_is_to_have_a_gpu_serves_nothing_without_one(repository: Repository) -> None:
    declare(repository, stored(repository, 1))
    on_gpu = Repository(repository.folder, gpu=True)
    with pytest.raises(ArtifactError, match="onnxruntime cannot use a GPU here"):
        on_gpu.load("m")


def test_a_candidate_that_is_not_declared_any_more_goes(repository: Repository) -> None:
    one, two = stored(repository, 1), stored(repository, 2)
    candidates = Repository(repository.folder, of_candidates=True)
    declare(repository, one, two)
    candidates.load("m")
    declare(repository, two)
    candidates.load("m")
    assert served(candidates) == {}


def test_what_is_served_already_is_not_loaded_again(repository: Repository) -> None:
    declare(repository, stored(repository, 1))
    repository.load("m")
    before = repository.models["m"]
    repository.load("m")
    assert repository.models["m"] is before


def test_a_refused_version_leaves_the_one_that_answers(repository: Repository) -> None:
    one, two = stored(repository, 1), stored(repository, 2)
    declare(repository, one)
    repository.load("m")
    damage(repository, two)
    declare(repository, two)
    with pytest.raises(ArtifactError, match="digest"):
        repository.load("m")
    assert served(repository) == {"m": "1"}


def test_a_damaged_champion_does_not_keep_its_successor_out(repository: Repository) -> None:
    one = stored(repository, 1)
    damage(repository, one)
    declare(repository, one, stored(repository, 2))
    candidates = Repository(repository.folder, of_candidates=True)
    candidates.load("m")
    assert served(candidates) == {"m": "2"}


def test_a_model_that_is_refused_keeps_no_other_from_being_loaded(repository: Repository) -> None:
    one = stored(repository, 1)
    damage(repository, one)
    declare(repository, one)
    Declaration(champion=stored(repository, 1, "other")).write(repository.folder / "other")
    repository.load_all()
    assert served(repository) == {"other": "1"}


@pytest.mark.parametrize("name", ["none", "../m", "m/../m", "M", "m\n", ""])
def test_only_models_of_this_server_are_loaded(repository: Repository, name: str) -> None:
    declare(repository, stored(repository, 1))
    with pytest.raises(ArtifactError, match="there is no model .* in this server"):
        repository.load(name)


def test_a_version_outside_its_models_folder_is_refused(repository: Repository) -> None:
    outside = stored(repository, 1, "other").model_copy(update={"folder": "../other/1"})
    declare(repository, outside)
    with pytest.raises(ArtifactError, match="lies outside the model's own folder"):
        repository.load("m")


@pytest.mark.parametrize("content", ["{", '{"champion": {"version": "1"}}', '{"shadow": null}'])
def test_a_damaged_declaration_says_what_to_do(repository: Repository, content: str) -> None:
    path = repository.folder / "m" / Declaration.FILE
    path.write_text(content)
    with pytest.raises(ArtifactError) as caught:
        repository.load("m")
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith("; delete it and deploy the model again.")


def test_the_index_says_which_version_answers_and_which_is_refused_and_why(repository: Repository) -> None:
    one, two = stored(repository, 1), stored(repository, 2)
    declare(repository, one)
    repository.load("m")
    damage(repository, two)
    declare(repository, two)
    damaged = stored(repository, 1, "other")
    Declaration(champion=damaged.model_copy(update={"sha256": "0" * 64})).write(repository.folder / "other")
    repository.load_all()
    [m, other] = repository.index()
    assert (m["name"], m["version"], m["state"]) == ("m", "1", "READY")
    assert (other["name"], other["version"], other["state"]) == ("other", "", "UNAVAILABLE")
    assert all("digest" in entry["reason"] for entry in (m, other))


def test_the_index_forgets_what_is_mended_or_not_declared_any_more(repository: Repository) -> None:
    one, two = stored(repository, 1), stored(repository, 2)
    damage(repository, one)
    declare(repository, one)
    repository.load_all()
    assert [entry["state"] for entry in repository.index()] == ["UNAVAILABLE"]
    declare(repository, two)
    repository.load("m")
    assert repository.index() == [{"name": "m", "version": "2", "state": "READY", "reason": ""}]
    declare(repository)
    repository.load("m")
    assert repository.index() == []


def test_a_damaged_declaration_is_in_the_index_and_what_nobody_declares_is_not(repository: Repository) -> None:
    (repository.folder / "m" / Declaration.FILE).write_text("{")
    for name in ("m", "none"):
        with pytest.raises(ArtifactError):
            repository.load(name)
    assert [(entry["name"], entry["state"]) for entry in repository.index()] == [("m", "UNAVAILABLE")]
