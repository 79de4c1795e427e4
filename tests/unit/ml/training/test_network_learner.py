"""A torch network as a learner: what it is told about its arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlops_assets.ml.errors import TrainingError
from tests.training import CONFIG, weights

if TYPE_CHECKING:
    from pathlib import Path


def test_params_a_network_does_not_take(features: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"train\.params: they do not fit MLP"):
        weights(features, tmp_path / "out", CONFIG.model_copy(update={"params": {"width": 3}}))
