"""The one way to deploy a version: what is served at each moment, and what is served after each failure."""

from __future__ import annotations

import inspect
import json
import textwrap
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.ml.errors import ArtifactError, DeploymentError
from mlops_assets.serving.declaration import CANDIDATE, ServedVersion
from mlops_assets.serving.predictor import Predictor
from mlops_assets.testing import check_serving_target
from resources.serving.golden_rows import Endpoint
from resources.serving.serving_target import ServingTarget
from tests.artifacts import write_artifact

if TYPE_CHECKING:
    from pathlib import Path


class Server:
    """This process as the server of the target in the docstring of ServingTarget."""

    def __init__(self) -> None:
        self.served: dict[str, ServedVersion | None] = {}
        self.files: dict[str, Path] = {}
        self.seen: list[dict[str, str]] = []
        self.failures: dict[str, BaseException] = {}

    def target(self) -> ServingTarget:
        """The docstring's example, which asks this server."""
        example = inspect.getdoc(ServingTarget).partition("maps names to:\n")[2]  # pyright: ignore
        names: dict[str, Any] = {"served": self.served, "files": self.files, "lock": nullcontext()}
        names |= {"ServingTarget": ServingTarget, "Endpoint": Endpoint, "CANDIDATE": CANDIDATE}
        exec(textwrap.dedent(example), names)
        one_server = names["OneServer"]
        server = self

        class Asked(one_server):
            def post(self, url: str, body: dict[str, Any], headers: Any = None) -> dict[str, Any]:
                return server.answer(url.split("/")[-2], body)

        return Asked(url="http://here")

    def answer(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        self.seen.append(self.versions())
        if name in self.failures:
            raise self.failures[name]
        version = self.served.get(name)
        if version is None:
            raise DeploymentError(f"there is no model {name!r} here")
        try:
            predictor = Predictor(name, version, self.files[version.folder])
        except ArtifactError as error:
            raise DeploymentError(str(error)) from error
        return json.loads(predictor.predict_v2(json.dumps(body).encode(), None).body)

    def versions(self) -> dict[str, str]:
        """The versions by the names under which they are served."""
        return {name: version.version for name, version in self.served.items() if version}


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def one(tmp_path: Path) -> tuple[Path, str]:
    """An artifact and its digest."""
    return tmp_path / "one", write_artifact(tmp_path / "one").sha256


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, str]:
    """Another."""
    return tmp_path / "two", write_artifact(tmp_path / "two", factor=3.0).sha256


def test_the_docstrings_target_keeps_what_every_target_promises(server: Server, one: tuple[Path, str]) -> None:
    check_serving_target(server.target(), one[0])


def test_a_version_answers_as_candidate_before_it_takes_the_name(
    server: Server, one: tuple[Path, str], two: tuple[Path, str]
) -> None:
    target = server.target()
    target.deploy("m", *one, 1)
    proof = target.deploy("m", *two, 2)
    assert server.seen == [{"m-candidate": "1"}, {"m": "1"}, {"m": "1", "m-candidate": "2"}, {"m": "2"}]
    assert (proof.url, proof.rows, proof.difference) == ("http://here", 2, 0.0)
    assert proof.example == """curl http://here/v1/models/m:predict -d '{"instances": [{"x": 1.0}]}'"""


def test_what_is_served_already_needs_no_candidate(server: Server, one: tuple[Path, str]) -> None:
    target = server.target()
    target.deploy("m", *one, 1)
    target.deploy("m", *one, 1)
    assert server.seen[-1] == {"m": "1"}
    assert len(server.seen) == 3


FAILURES = {
    "on purpose": (ArtifactError("damaged"), DeploymentError),
    "a bug": (RuntimeError("bug"), RuntimeError),
    "a signal": (KeyboardInterrupt(), KeyboardInterrupt),
}


@pytest.mark.parametrize("name", ["m-candidate", "m"])
@pytest.mark.parametrize(("failure", "raised"), FAILURES.values(), ids=FAILURES)
def test_whatever_is_raised_the_old_version_is_served_alone(
    server: Server,
    one: tuple[Path, str],
    two: tuple[Path, str],
    name: str,
    failure: BaseException,
    raised: type[BaseException],
) -> None:
    target = server.target()
    target.deploy("m", *one, 1)
    server.failures = {name: failure}
    with pytest.raises(raised):
        target.deploy("m", *two, 2)
    assert server.versions() == {"m": "1"}


@pytest.mark.parametrize("name", ["m-candidate", "m"])
def test_a_first_version_that_fails_leaves_nothing(server: Server, one: tuple[Path, str], name: str) -> None:
    server.failures = {name: DeploymentError("no answer")}
    with pytest.raises(DeploymentError):
        server.target().deploy("m", *one, 1)
    assert server.versions() == {}


OUTCOMES = {
    "m-candidate": "Version 2 of m was not rolled out, version 1 keeps answering: no answer.",
    "m": "Version 2 of m was rolled back: no answer.",
}


@pytest.mark.parametrize(("name", "outcome"), OUTCOMES.items())
def test_a_failed_deployment_says_what_answers_now(
    server: Server, one: tuple[Path, str], two: tuple[Path, str], name: str, outcome: str
) -> None:
    target = server.target()
    target.deploy("m", *one, 1)
    server.failures = {name: DeploymentError("no answer")}
    with pytest.raises(DeploymentError) as caught:
        target.deploy("m", *two, 2)
    assert str(caught.value) == outcome


def test_answers_that_differ_from_the_offline_ones_are_refused(server: Server, one: tuple[Path, str]) -> None:
    target = server.target()
    answer = server.answer

    def wrong(name: str, body: dict[str, Any]) -> dict[str, Any]:
        response = answer(name, body)
        response["outputs"][0]["data"][1] += 0.25
        return response

    server.answer = wrong
    with pytest.raises(DeploymentError, match="it answers 2 golden rows differently than offline, by 0.25"):
        target.deploy("m", *one, 1)


def test_a_target_that_does_not_look_at_golden_rows_fails_the_check(server: Server, one: tuple[Path, str]) -> None:
    class Trusting(type(server.target())):
        def deploy(self, model: str, artifact: Path, sha256: str, version: int) -> Any:
            self.store(model, ServedVersion.of(version, sha256), artifact)
            return self.make_champion(model, ServedVersion.of(version, sha256))

    with pytest.raises(AssertionError, match="a version was deployed whose graph had been changed"):
        check_serving_target(Trusting(url="http://here"), one[0])
