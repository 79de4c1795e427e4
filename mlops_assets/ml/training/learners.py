"""Which learner fits what `train.network` names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_assets.ml.import_paths import import_class

if TYPE_CHECKING:
    from mlops_assets.ml.features.feature_set import FeatureSet
    from mlops_assets.ml.training.learner import Learner
    from mlops_assets.ml.training.training_config import TrainingConfig


def learner_for(config: TrainingConfig, features: FeatureSet) -> Learner:
    """The learner for what `train.network` names: a torch.nn.Module, a learner of its own, or an estimator.

    Raises:
        TrainingError: there is no such class.
    """
    kind = import_class(config.network)
    if any(base.__module__.startswith("torch.nn.") and base.__name__ == "Module" for base in kind.__mro__):
        from mlops_assets.ml.training.network_learner import NetworkLearner

        return NetworkLearner(config, features)
    if hasattr(kind, "to_onnx"):
        return kind(config, features)
    from mlops_assets.ml.training.estimator_learner import EstimatorLearner

    return EstimatorLearner(config, features)
