"""trained_model: how a training hears that it must go, and what its check says of the export."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from mlops_assets.assets.handles import TrainedModel
from mlops_assets.assets.trained_model import report, stop_signal
from mlops_assets.ml.training.learner import LearningCurve
from tests.artifacts import write_artifact

if TYPE_CHECKING:
    from pathlib import Path


def test_a_signal_is_noted_and_what_heard_it_before_hears_it_again_after() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with stop_signal() as stop_requested:
            assert not stop_requested()
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop_requested()
        assert heard == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_thread_cannot_hear_signals_and_is_never_asked() -> None:
    asked: list[bool] = []

    def work() -> None:
        with stop_signal() as stop_requested:
            asked.append(stop_requested())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert asked == [False]


@pytest.mark.parametrize(("difference", "passed"), [(0.0, True), (1e-5, True), (1.1e-5, False), (float("nan"), False)])
def test_a_graph_that_answers_differently_than_the_trained_model_fails(
    tmp_path: Path, difference: float, passed: bool
) -> None:
    signature = write_artifact(tmp_path / "model").model_copy(update={"export_difference": difference})
    handle = TrainedModel(prefix="w/trained_model", version="v", sha256=signature.sha256)
    [check] = report(handle, signature, LearningCurve(), is_new=True, mlflow_run="http://mlflow/run", speed={}).checks
    assert (check.check_name, check.passed) == ("export_equals_training", passed)
