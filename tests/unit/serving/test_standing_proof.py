"""Readiness of a model that has been loaded and does not answer as it did any more."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mlops_assets.ml.errors import ArtifactError
from mlops_assets.serving.declaration import ServedVersion
from mlops_assets.serving.predictor import Predictor
from mlops_assets.serving.standing_proof import HUNG_S, PROVE_AGAIN_S, StandingProofs
from tests.artifacts import write_artifact
from tests.support import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def model(tmp_path: Path) -> Predictor:
    signature = write_artifact(tmp_path / "m")
    return Predictor("m", ServedVersion(folder="m", sha256=signature.sha256, version="1"), tmp_path / "m")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def proved_anew(proofs: StandingProofs, model: Predictor, clock: Clock) -> str | None:
    """What is said after another proof."""
    clock.now += PROVE_AGAIN_S
    proofs.fault(model)
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "golden-rows"])
    return proofs.fault(model)


def test_a_model_that_answers_otherwise_than_in_training_is_not_ready_until_it_does_again(
    model: Predictor, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    proofs = StandingProofs(clock)
    assert proofs.fault(model) is None
    assert proved_anew(proofs, model, clock) is None
    as_it_was = model.onnx.session.run

    def wrong(*asked: Any) -> list[NDArray[Any]]:
        return [values + np.float32(1) for values in as_it_was(*asked)]

    def broken(*_: Any) -> Any:
        raise RuntimeError("CUDA failure 719")

    for session_run, told in ((wrong, "answers its golden rows differently"), (broken, "CUDA failure 719")):
        monkeypatch.setattr(model.onnx, "session", type("Session", (), {"run": staticmethod(session_run)}))
        assert told in (proved_anew(proofs, model, clock) or "")
    monkeypatch.setattr(model.onnx, "session", type("Session", (), {"run": staticmethod(as_it_was)}))
    assert proved_anew(proofs, model, clock) is None


def test_who_asks_does_not_wait_and_a_proof_that_hangs_is_a_fault(
    model: Predictor, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    proofs, goes_on, begun = StandingProofs(clock), threading.Event(), list[int]()

    def hanging() -> None:
        begun.append(1)
        goes_on.wait()

    monkeypatch.setattr(model, "prove", hanging)
    assert proofs.fault(model) is None
    clock.now = PROVE_AGAIN_S
    assert proofs.fault(model) is None, "a server that is only slow stays ready"
    clock.now += HUNG_S - 1
    assert proofs.fault(model) is None
    clock.now += 1
    assert "has not answered" in (proofs.fault(model) or "")
    assert begun == [1], "one proof at a time"
    goes_on.set()
    wait_until(lambda: proofs.fault(model) is None)


def test_a_graph_that_answers_otherwise_than_its_golden_rows_is_never_loaded(tmp_path: Path) -> None:
    signature = write_artifact(tmp_path / "m")
    outputs = {"prediction": [[2.0], [7.0]]}
    golden = signature.golden.model_copy(update={"outputs": outputs})
    signature.model_copy(update={"golden": golden}).write(tmp_path / "m")
    with pytest.raises(ArtifactError, match="answers its golden rows differently"):
        Predictor("m", ServedVersion(folder="m", sha256=signature.sha256, version="1"), tmp_path / "m")
