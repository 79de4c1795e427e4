"""What learns: the protocol of all learners, and what surrounds a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from mlops_assets.ml.values import Document, Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from mlops_assets.ml.features.feature_set import FeatureSet
    from mlops_assets.ml.training.checkpoint import CheckpointStore
    from mlops_assets.ml.training.training_config import TrainingConfig


class EpochMetrics(Value):
    """One point of the learning curve: mean losses per row after an epoch (counted from 1)."""

    epoch: int
    train_loss: float
    validation_loss: float


class LearningCurve(Document):
    """The losses after each epoch; without points for what is not fitted in epochs."""

    FILE = "curve.json"

    points: tuple[EpochMetrics, ...] = ()


WEIGHTS = "weights.safetensors"  # of a network, for whoever wants them
TRAINING_FILES = frozenset((WEIGHTS, LearningCurve.FILE))  # lie beside the artifact where a model was trained


@dataclass(frozen=True)
class TrainingRun:
    """What surrounds a training and decides nothing about its result."""

    checkpoints: CheckpointStore
    checkpoint_every: timedelta
    stop_requested: Callable[[], bool] = lambda: False
    log: Callable[[str], None] = lambda _: None
    tell_speed: Callable[[float], None] = lambda _: None
    """Called at the end of a training in epochs, with rows a second."""


class Learner(Protocol):
    """Learns from feature arrays and becomes an ONNX graph.

    A learner is made for one training, from `train` of the YAML and what is known of the features. A class of this
    kind may be named by `train.network` like any network or estimator. `mlops_assets.testing.check_learner` checks it.
    The smallest one predicts the mean:

        class Mean:
            trains_in_parallel = False

            def __init__(self, config, features):
                self.mean = np.zeros((1, 1), np.float32)

            def fit(self, folder, out, run):
                _, y = load_arrays(folder, "train")
                self.mean[:] = y.mean()
                return LearningCurve()

            def predict(self, x):
                return np.repeat(self.mean, len(x), axis=0)

            def to_onnx(self):
                return onnx.parser.parse_model(...)  # features float[N, D] => prediction float[N, 1]
    """

    trains_in_parallel: ClassVar[bool]
    """Whether several workers can fit it together."""

    def __init__(self, config: TrainingConfig, features: FeatureSet) -> None: ...

    def fit(self, folder: Path, out: Path, run: TrainingRun) -> LearningCurve:
        """Learn from the arrays in `folder` (see `load_arrays`). Files to keep beside the artifact go into `out`.

        Raises:
            TrainingError: it cannot be fitted; the message says what to change in the YAML.
            TrainingInterrupted: `run.stop_requested` said so; a checkpoint was written first.
        """
        ...

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        """For features (n, d) the prediction (n, 1) in the target's unit, or the probabilities (n, k) of classes."""
        ...

    def to_onnx(self) -> Any:
        """An onnx.ModelProto from `features` float32 (n, d) to `prediction` (n, 1) or `probabilities` (n, k)."""
        ...
