"""The way back to another version, on the whole platform: endpoint, alias and ledger, or nothing at all."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.components.rollback import roll_back
from mlops_assets.ml.errors import ArtifactError, SpecError, TrackingRefused
from mlops_assets.ml.inference.artifact import GRAPH, ModelSignature
from mlops_assets.serving.log_policy import InferenceLogPolicy
from resources.tracking.mlflow_tracking import Tracking
from tests.support import Platform, failure, messages, weather

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    import dagster as dg


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, mlflow_uri: str) -> Iterator[Platform]:
    """A model with two versions."""
    platform = Platform(tmp_path_factory.mktemp("platform"), mlflow_uri)
    platform.put(weather(200))
    first = platform.run()
    assert first.success, messages(first)
    override = {"ops": {f"{platform.model}__deployment": {"config": {"override": {"beats_champion": "a test"}}}}}
    second = platform.run(platform.spec(train__params={"C": 0.01}), run_config=override)
    assert second.success, messages(second)
    yield platform
    platform.serving.server.stop()


@pytest.fixture
def two(served: Platform) -> Platform:
    """The model, whose version 2 is champion and answers."""
    if state(served)[:2] != ("2", 2):
        back(served, 2)
    return served


def state(platform: Platform) -> tuple[str, int | None, int]:
    """The version that answers, the champion, and how many entries the ledger has."""
    return platform.served(), platform.champion(), len(platform.lake.entries(f"{platform.model}/ledger"))


def back(platform: Platform, version: int, reason: str = "wrong at night", **more: Any) -> list[str]:
    outside = platform.serving, platform.tracking, platform.lake
    return roll_back(platform.model, version, reason, "user ann", *outside, **more)


@contextmanager
def replaced(platform: Platform, name: str, content: Callable[[bytes], bytes], folder: Path) -> Generator[None]:
    """A file of version 1 in MLflow is another one while the block runs."""
    version = platform.tracking.numbered(platform.model, 1)
    assert version is not None
    whole = (platform.tracking.download(version, folder) / name).read_bytes()
    for wanted, during in ((content(whole), True), (whole, False)):
        (folder / name).write_bytes(wanted)
        platform.tracking.client.log_artifact(version.run_id, str(folder / name), "model")
        if during:
            yield


def test_endpoint_alias_and_ledger_go_back_together_and_forth_again(two: Platform) -> None:
    before = state(two)[2]
    told = back(two, 1)
    assert "version 1 answers at" in told[0]
    assert told[0].endswith("where version 2 was champion")
    assert state(two) == ("1", 1, before + 1)
    last = two.lake.entries(f"{two.model}/ledger")[-1]
    assert (last["alias"], last["version"], last["previous_version"]) == ("champion", 1, 2)
    assert (last["actor"], last["reason"]) == ("user ann", "wrong at night")
    assert last["evidence"]["decision"] == "rolled back from version 2"
    assert last["evidence"]["rows"] > 0
    assert [step["state"] for step in last["evidence"]["rollout"]] == ["prepared", "ready", "golden", "promoted"]
    with pytest.raises(SpecError, match=f"Version 1 of {two.model} is the champion already, and answers"):
        back(two, 1)
    assert state(two) == ("1", 1, before + 1)
    back(two, 2)
    assert state(two) == ("2", 2, before + 2)


def test_how_it_is_served_is_what_one_says_or_stays_as_it_was(two: Platform) -> None:
    policy = InferenceLogPolicy(rate=0.5)
    back(two, 1, spec=two.spec(deploy={"inference_log": policy, "explain": True}))
    served = two.serving.current(two.model)
    assert served is not None
    assert (served.log, served.explain) == (policy, True)
    back(two, 2)
    served = two.serving.current(two.model)
    assert served is not None
    assert (served.log, served.explain) == (policy, True)


@pytest.mark.parametrize(
    ("version", "reason", "told"),
    [(9, "why", "There is no version 9 of .* in MLflow; name one that is there: .*2, 1"), (1, " ", "needs a reason")],
)
def test_what_is_not_there_and_what_has_no_reason_changes_nothing(
    two: Platform, version: int, reason: str, told: str
) -> None:
    before = state(two)
    with pytest.raises(SpecError, match=told):
        back(two, version, reason)
    assert state(two) == before


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (GRAPH, b"another graph", "model.onnx has the digest .*; restore the artifacts of its run"),
        (ModelSignature.FILE, b"{}", "model.json is not a model signature: .*; restore the artifacts"),
    ],
    ids=["graph", "signature"],
)
def test_a_damaged_artifact_changes_nothing(
    two: Platform, tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    before = state(two)
    with (
        replaced(two, name, lambda _: content, tmp_path),
        pytest.raises(ArtifactError, match=f"version 1 of {two.model} in MLflow: {told}"),
    ):
        back(two, 1)
    assert state(two) == before


def test_a_version_whose_golden_rows_were_changed_is_not_rolled_out(two: Platform, tmp_path: Path) -> None:
    before = state(two)

    def other_answers(content: bytes) -> bytes:
        signature = ModelSignature.model_validate_json(content)
        outputs = signature.golden.outputs | {"label": signature.golden.outputs["label"][::-1]}
        golden = signature.golden.model_copy(update={"outputs": outputs})
        return signature.model_copy(update={"golden": golden}).model_dump_json().encode()

    with (
        replaced(two, ModelSignature.FILE, other_answers, tmp_path),
        pytest.raises(ArtifactError, match="model.json is not the one that belongs to model.onnx"),
    ):
        back(two, 1)
    assert state(two) == before


def test_a_version_of_others_is_refused(two: Platform) -> None:
    before = state(two)
    theirs = two.tracking.client.create_model_version(two.model, "s3://theirs/model")
    with pytest.raises(TrackingRefused, match=f"Version {theirs.version} of .* was not registered here"):
        back(two, int(theirs.version))
    assert state(two) == before


def test_what_was_killed_half_way_is_completed(two: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    before = state(two)[2]
    monkeypatch.setattr(Tracking, "move_alias", killed)
    with pytest.raises(KeyboardInterrupt):
        back(two, 1)
    monkeypatch.undo()
    assert state(two) == ("1", 2, before)
    back(two, 1)
    assert state(two) == ("1", 1, before + 1)


def test_an_alias_without_its_entry_in_the_ledger_gets_it(two: Platform) -> None:
    before = state(two)[2]
    two.tracking.client.set_registered_model_alias(two.model, "champion", "1")
    back(two, 1)
    assert state(two) == ("1", 1, before + 1)


def test_the_job_does_the_same(two: Platform) -> None:
    def run(version: int) -> dg.ExecuteInProcessResult:
        config = {"ops": {f"{two.model}__make_champion": {"config": {"version": version, "reason": "wrong at night"}}}}
        return two.run(job=f"{two.model}_rollback", run_config=config)

    assert "There is no version 9" in failure(run(9))
    result = run(1)
    assert result.success, messages(result)
    assert state(two)[:2] == ("1", 1)
    assert two.lake.entries(f"{two.model}/ledger")[-1]["actor"] == f"run {result.run_id}"
