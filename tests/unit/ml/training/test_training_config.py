"""What decides the weights, and the YAML's `train`, are one definition."""

from __future__ import annotations

from datetime import timedelta

import yaml

from mlops_assets.ml.training.training_config import TrainingConfig
from mlops_assets.spec.model_spec import Train
from resources.kubernetes.compute import TrainingCompute

NETWORK = "mlops_assets.ml.networks.MLP"
DECIDES_NOTHING = {"checkpoint_every", "compute"}


def test_the_yaml_has_the_fields_and_the_defaults_of_the_training() -> None:
    train, config = Train.model_fields, TrainingConfig.model_fields
    assert train.keys() == config.keys() | DECIDES_NOTHING
    assert {name: train[name].default for name in config} == {name: field.default for name, field in config.items()}


def test_what_the_yaml_does_not_set_is_not_set_in_the_config() -> None:
    config = Train(network="sklearn.linear_model.Ridge", params={"alpha": 2}).config
    assert config.model_fields_set == {"network", "params"}


def test_of_an_estimator_only_what_applies_to_it_is_among_the_settings() -> None:
    assert TrainingConfig(network="sklearn.linear_model.Ridge").settings.keys() == {"network", "params", "seed"}
    assert {"epochs", "precision"} <= TrainingConfig(network=NETWORK).settings.keys()


def test_the_classes_are_also_those_of_inner_estimators() -> None:
    inner = {"class": "sklearn.svm.SVC", "params": {"estimator": {"class": "sklearn.tree.ExtraTreeClassifier"}}}
    config = TrainingConfig(network="sklearn.ensemble.VotingClassifier", params={"estimators": [["a", inner]]})
    assert config.classes == (
        "sklearn.ensemble.VotingClassifier",
        "sklearn.svm.SVC",
        "sklearn.tree.ExtraTreeClassifier",
    )


def test_numbers_that_yaml_1_1_reads_as_text_are_numbers() -> None:
    params = yaml.safe_load("{dropout: 1e-1, hidden: [8, 1e2], inner: {alpha: -2.5E-3}, name: e-3, code: '1e'}")
    assert TrainingConfig(network=NETWORK, params=params).params == {
        "dropout": 0.1,
        "hidden": [8, 100.0],
        "inner": {"alpha": -0.0025},
        "name": "e-3",
        "code": "1e",
    }


def test_only_what_decides_the_weights_is_in_the_config() -> None:
    where = {"checkpoint_every": timedelta(seconds=1), "compute": TrainingCompute(gpu=1, workers=4)}
    decides = {"params": {"hidden": [8]}, "epochs": 3, "seed": 7, "weight_decay": 0.1}
    assert Train(network=NETWORK, **decides, **where).config == TrainingConfig(network=NETWORK, **decides)
