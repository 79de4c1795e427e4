"""Networks of users: what they forget is told before the first step, in one sentence with its line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.ml.errors import TrainingError
from mlops_assets.ml.features.feature_set import FeatureSet
from mlops_assets.ml.training.learners import learner_for
from mlops_assets.testing import check_learner
from tests import user_networks
from tests.training import CONFIG, weights

if TYPE_CHECKING:
    from mlops_assets.ml.training.training_config import TrainingConfig
    from mlops_assets.ml.values import Task

SOUND: list[Any] = [
    ("Plain", "multiclass_classification"),
    ("Normed", "binary_classification"),
    pytest.param("Tied", "regression", marks=pytest.mark.long),
    ("Lazy", "multiclass_classification"),
    pytest.param("Noisy", "regression", marks=pytest.mark.long),
    pytest.param("Attentive", "binary_classification", marks=pytest.mark.long),
]
FAULTY = {
    "Flat": r"forward of .*Flat gives \(8,\), wanted \(8, 1\); give one score",
    "FlatForOneRow": r"forward of .* gives \(1,\), wanted \(1, 1\)",
    **dict.fromkeys(
        ("RowsSummedUp", "BesideTheMean", "RowsAsSequence"),
        "answers a row differently when others are beside it.*along dimension 1, the features, and not along the rows",
    ),
    "Pair": r"gives a tuple, wanted a tensor of shape \(8, 1\)",
    "Branching": r"Branching has no ONNX form.*data-dependent.*\(user_networks\.py:LINE\)",
    "Counting": "answers differently after a checkpoint: it keeps state outside",
    "Averaging": "answers differently after a checkpoint",
    "Fourier": "answers differently after a checkpoint.*register_buffer",
    "ExtraState": "has a state that no checkpoint holds: _extra_state is no tensor; keep it in parameters",
    "OwnNoise": "answers differently after a checkpoint.*random numbers of its own",
    "AlwaysDropping": "answers differently each time in eval mode; use nn.Dropout",
    "Narrow": r"Narrow cannot be run: .*shapes cannot be multiplied.* \(user_networks\.py:LINE\); correct the network",
    "Frozen": "Frozen cannot be run: element 0 of tensors does not require grad",
    "Unmade": r"Unmade cannot be made: no such pretrained weights \(user_networks\.py:LINE\)",
}
FAULTY_LINES = {"Branching": "if features.mean() > 0:", "Narrow": "features[:, :2]", "Unmade": 'raise RuntimeError("no'}


def config(name: str, **changed: object) -> TrainingConfig:
    return CONFIG.model_copy(update={"network": f"tests.user_networks.{name}", "params": {}, **changed})


def line_of(text: str) -> int:
    lines = Path(user_networks.__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


@pytest.mark.parametrize(("name", "task"), SOUND)
def test_a_sound_network_goes_the_whole_way(name: str, task: Task) -> None:
    check_learner(config(name, epochs=1), task)


@pytest.mark.parametrize(("name", "message"), FAULTY.items())
def test_a_fault_of_a_network_is_told_before_anything_is_trained(features: Path, name: str, message: str) -> None:
    message = message.replace("LINE", str(line_of(FAULTY_LINES[name])) if name in FAULTY_LINES else "")
    with pytest.raises(TrainingError, match=rf"^train\.network: .*{message}") as caught:
        learner_for(config(name), FeatureSet.read(features))
    assert "\n" not in str(caught.value)


def test_what_fails_only_in_training_is_told_with_its_line(features: Path, tmp_path: Path) -> None:
    line = line_of("too many rows for me")
    with pytest.raises(
        TrainingError, match=rf"FailsLater fails in epoch 1: too many rows for me \(user_networks\.py:{line}\)"
    ):
        weights(features, tmp_path / "out", config("FailsLater"))


def test_a_batch_of_one_row_is_told_where_the_yaml_asks_for_it(features: Path) -> None:
    with pytest.raises(TrainingError, match="Expected more than 1 value per channel"):
        learner_for(config("Normed", batch_size=1), FeatureSet.read(features))
