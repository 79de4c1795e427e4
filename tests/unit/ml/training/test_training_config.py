"""What decides the weights, and the YAML's `train`, are one definition."""

from __future__ import annotations

from datetime import timedelta

from mlops_assets.ml.training.training_config import TrainingConfig
from mlops_assets.spec.model_spec import Train
from resources.kubernetes.compute import TrainingCompute

NETWORK = "mlops_assets.ml.networks.MLP"
DECIDES_NOTHING = {"checkpoint_every", "compute"}


def test_the_yaml_has_the_fields_and_the_defaults_of_the_training() -> None:
    train, config = Train.model_fields, TrainingConfig.model_fields
    assert train.keys() == config.keys() | DECIDES_NOTHING
    assert {name: train[name].default for name in config} == {name: field.default for name, field in config.items()}


def test_only_what_decides_the_weights_is_in_the_config() -> None:
    where = {"checkpoint_every": timedelta(seconds=1), "compute": TrainingCompute(gpu=1, workers=4)}
    decides = {"params": {"hidden": [8]}, "epochs": 3, "seed": 7, "weight_decay": 0.1}
    assert Train(network=NETWORK, **decides, **where).config == TrainingConfig(network=NETWORK, **decides)
