"""Scikit-learn estimators as learners, fitted on the same arrays as networks."""

from __future__ import annotations

import copy
import inspect
import math
import random
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mlops_assets.ml.errors import TrainingError
from mlops_assets.ml.features.feature_set import load_arrays
from mlops_assets.ml.features.sklearn_to_onnx import keep_output, to_onnx, with_single_output
from mlops_assets.ml.features.target_scale import in_own_unit, is_far, own_unit_in_graph, standardised
from mlops_assets.ml.import_paths import construct, import_class
from mlops_assets.ml.inference.artifact import GRAPH, MAX_BYTES
from mlops_assets.ml.inference.onnx_model import OnnxModel
from mlops_assets.ml.training.agreement import largest_difference
from mlops_assets.ml.training.learner import LearningCurve
from mlops_assets.ml.training.training_config import NETWORK_FIELDS, is_estimator

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from numpy.typing import NDArray

    from mlops_assets.ml.features.feature_set import FeatureSet
    from mlops_assets.ml.training.learner import TrainingRun
    from mlops_assets.ml.training.training_config import TrainingConfig

TRIED_ROWS, TRIED_ROWS_OF_CLASS, TRIED_TREES = 100, 10, 10
MANY_ROWS = 10_000_000  # rows times trees above which it pays to fit one tree to see how large the whole will be
# Beyond it, the ONNX form means something else. What is closer may be float32's doing, which with few rows can be more
# than with all; whether it is too much is checked when all are fitted
ANOTHER_ANSWER = 1e-3
WHERE, REMEDY = "train.network", "choose another estimator"


class EstimatorLearner:
    """The estimator that `train.network` names; the seed is its random_state where it takes one.

    A target that float32 cannot resolve is standardised for the fit; others are fitted in their own unit, in which some
    estimators mean their params.

    Probabilities lie between 0 and 1, and of two classes they add up to 1, in the graph as in `predict`: the float32
    sums of a forest's trees can be beyond by a rounding error.
    """

    trains_in_parallel: ClassVar[bool] = False

    def __init__(self, config: TrainingConfig, features: FeatureSet) -> None:
        self.config, self.features = config, features
        self.is_regression = features.task == "regression"
        for field in NETWORK_FIELDS:
            if field in config.model_fields_set:
                raise TrainingError(
                    "it is about networks, and this is an estimator", where=f"train.{field}", remedy="remove it"
                )
        self.estimator = _make(config.network, config.params, config.seed)
        for method in ("fit", self._answers_by):
            # Some have predict_proba with certain params, which is known when they are fitted
            if not hasattr(type(self.estimator), method):
                raise TrainingError(f"{config.network} has no {method}", where=WHERE, remedy=REMEDY)

    @property
    def _standardises(self) -> bool:
        return self.is_regression and is_far(self.features)

    @property
    def _answers_by(self) -> str:
        return "predict" if self.is_regression else "predict_proba"

    def fit(self, folder: Path, out: Path, run: TrainingRun) -> LearningCurve:
        """Fit on the train arrays at once: there are no checkpoints, and no epochs to show."""
        x, y = load_arrays(folder, "train")
        if self._standardises:
            y = standardised(y, self.features)
        self._rehearse(x, y)
        self._check_size(x, y)
        try:
            with _seeded(self.config.seed):
                self.estimator.fit(np.asarray(x), np.asarray(y))
        except (OSError, MemoryError):
            raise
        except Exception as error:
            what = f"{self.config.network} cannot be fitted: {_first_line(error)}"
            raise TrainingError(what, remedy="correct train.params, or choose another estimator") from error
        self._check_that_it_answers()
        return LearningCurve()

    def _check_that_it_answers(self) -> None:
        if not hasattr(self.estimator, self._answers_by):
            remedy = "choose params with which it has one, or another estimator"
            raise TrainingError(
                f"{self.config.network} has no {self._answers_by} with these params",
                where="train.params",
                remedy=remedy,
            )

    def _rehearse(self, x: NDArray[np.float32], y: NDArray[Any]) -> None:
        """Fit a copy on a few rows of each class, and run its graph, so that it is known before the fit that it can.

        Raises:
            TrainingError: the estimator has no ONNX form, or one that answers otherwise.
        """
        rows = _few_rows(y, self.features)
        others = np.setdiff1d(np.arange(min(2 * TRIED_ROWS, len(x))), rows)
        asked = np.concatenate([x[rows], x[others]])
        learner = self._unfitted(TRIED_TREES)
        with warnings.catch_warnings(), _seeded(self.config.seed):
            warnings.simplefilter("ignore")
            try:
                learner.estimator.fit(np.array(x[rows]), np.array(y[rows]))
            except Exception:  # few rows may be too few for it; what else is wrong the fit says
                return
            learner._check_that_it_answers()
            try:
                [answers] = OnnxModel(learner.to_onnx().SerializeToString()).predict({"features": asked}).values()
            except (OSError, MemoryError):
                raise
            except Exception as error:
                what = f"{self.config.network} has no ONNX form, which serving needs ({_first_line(error)})"
                raise TrainingError(what, where=WHERE, remedy=REMEDY) from error
            trained = learner.predict(asked)
            if not np.isfinite(trained).all():  # few rows may be too few for it
                return
            difference = self._difference(answers, trained, fitted=len(rows))
        if not difference <= ANOTHER_ANSWER:
            what = f"{self.config.network} answers otherwise with these params in its ONNX form, which serving needs"
            remedy = "choose other params, or another estimator"
            raise TrainingError(f"{what} (by {difference:.2g} on a few rows)", where="train.params", remedy=remedy)

    def _difference(self, answers: NDArray[Any], trained: NDArray[Any], fitted: int) -> float:
        """The largest difference on the first `fitted` rows, or the median on the others where that is larger.

        A row it was not fitted on may lie where a tree is cut, and float32 and float64 differ on its side. With whole
        numbers that befalls some rows; most are apart where the graph is another function.
        """
        if answers.shape != trained.shape:
            return math.inf
        apart = [largest_difference(answers[:fitted], trained[:fitted], self.features)]
        others = range(fitted, len(answers))
        each = [largest_difference(answers[i : i + 1], trained[i : i + 1], self.features) for i in others]
        return float(np.max([*apart, np.median(each) if each else 0.0]))

    def _check_size(self, x: NDArray[np.float32], y: NDArray[Any]) -> None:
        """Fit one tree where there are many, and refuse what will be too large to store.

        Raises:
            TrainingError: the graph would be larger than an artifact may be.
        """
        trees = int(getattr(self.estimator, "n_estimators", 0) or 0)
        if trees * len(x) < MANY_ROWS:
            return
        learner = self._unfitted(1)
        with warnings.catch_warnings(), _seeded(self.config.seed):
            warnings.simplefilter("ignore")
            try:
                learner.estimator.fit(np.asarray(x), np.asarray(y))
                size = learner.to_onnx().ByteSize() * trees
            except Exception:  # what is wrong the fit says
                return
        if size > MAX_BYTES[GRAPH]:
            what = f"{trees:,} trees would take about {size / 2**30:.1f} GiB, allowed are {MAX_BYTES[GRAPH] >> 30} GiB"
            remedy = "lower n_estimators or max_depth, or raise min_samples_leaf"
            raise TrainingError(what, where="train.params", remedy=remedy)

    def _unfitted(self, most_trees: int) -> EstimatorLearner:
        """A copy that is not fitted, with so many trees at most where it has any."""
        copied = copy.copy(self)
        copied.estimator = copy.deepcopy(self.estimator)
        trees = getattr(self.estimator, "n_estimators", None)
        if isinstance(trees, int) and trees > most_trees:
            copied.estimator.n_estimators = most_trees
        return copied

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        """As the estimator predicts, (n, 1) or (n, k)."""
        if self.is_regression:
            predicted = np.asarray(self.estimator.predict(x)).reshape(-1, 1)
            return in_own_unit(predicted, self.features) if self._standardises else predicted
        probabilities = np.clip(np.asarray(self.estimator.predict_proba(x)), 0, 1)
        if probabilities.shape[1] == 2:
            probabilities[:, 0] = 1 - probabilities[:, 1]
        return probabilities

    def to_onnx(self) -> Any:
        """The estimator as skl2onnx converts it."""
        from skl2onnx.common.data_types import FloatTensorType

        options = None if self.is_regression else {id(self.estimator): {"zipmap": False, "output_class_labels": False}}
        inputs = [("features", FloatTensorType([None, len(self.features.feature_names)]))]
        graph = to_onnx(self.estimator, "estimator", inputs, options)
        if self._standardises:
            own_unit_in_graph(graph.graph, graph.graph.output[0].name, self.features)
            return graph
        if self.is_regression:
            return with_single_output(graph, 0, "prediction")
        # The first output is the label, which the export makes of the probabilities
        return _bounded(graph, keep_output(graph, 1), len(self.features.classes or ()))


def _bounded(graph: Any, probabilities: str, classes: int) -> Any:
    """The graph with the output `probabilities` (n, k) between 0 and 1; of two, the first is 1 less the second."""
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, value: Any) -> Any:
        return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, name))

    nodes = [
        constant("zero", np.array(0, np.float32)),
        constant("one", np.array(1, np.float32)),
        # Not Clip: a graph of skl2onnx names the oldest operators that do, among which its bounds are no inputs yet
        helper.make_node("Max", [probabilities, "zero"], ["not_negative"]),
        helper.make_node("Min", ["not_negative", "one"], ["clipped" if classes == 2 else "probabilities"]),
    ]
    if classes == 2:
        nodes += [
            constant("second", np.array([1], np.int64)),
            helper.make_node("Gather", ["clipped", "second"], ["positive"], axis=1),
            helper.make_node("Sub", ["one", "positive"], ["negative"]),
            helper.make_node("Concat", ["negative", "positive"], ["probabilities"], axis=1),
        ]
    graph.graph.node.extend(nodes)
    graph.graph.output.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, classes]))
    return graph


@contextmanager
def _seeded(seed: int) -> Generator[None]:
    """For what takes no random_state: the global generators of numpy and Python begin with the seed, and go back."""
    before = np.random.get_state(), random.getstate()
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before[0])
        random.setstate(before[1])


def _make(path: str, params: dict[str, Any], seed: int) -> Any:
    """The estimator of these params, with the estimators that they name, and the seed where it takes one."""
    kind = import_class(path)
    given = {name: _with_estimators(value, seed) for name, value in params.items()}
    # VotingClassifier's flatten_transform is about transform alone, which nobody calls, and True has no ONNX form
    for name, value in (("random_state", seed), ("flatten_transform", False)):
        if name in inspect.signature(kind).parameters:
            given.setdefault(name, value)
    return construct(kind, given)


def _with_estimators(value: Any, seed: int) -> Any:
    """The YAML's value with `{class: ..., params: ...}` made; a pair of name and estimator is a tuple, as in Python."""
    if is_estimator(value):
        return _make(value["class"], value.get("params") or {}, seed)
    if isinstance(value, list):
        made = [_with_estimators(entry, seed) for entry in value]
        is_pair = len(value) == 2 and isinstance(value[0], str) and is_estimator(value[1])
        return tuple(made) if is_pair else made
    return value


def _few_rows(y: NDArray[Any], features: FeatureSet) -> NDArray[np.intp]:
    """The numbers of some of the first rows: for a classification with all classes among them."""
    if features.classes is None:
        return np.arange(min(TRIED_ROWS, len(y)))
    each = max(TRIED_ROWS_OF_CLASS, TRIED_ROWS // len(features.classes))
    of_classes = [np.flatnonzero(y == index)[:each] for index in range(len(features.classes))]
    return np.sort(np.concatenate(of_classes))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text.rstrip(".") if len(text) <= 200 else f"{text[:197]}..."
