"""The version of the code that makes a model changes with what decides the model, and with nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from mlops_assets.assets import features
from mlops_assets.assets.code_version import code_version
from tests.support import spec

NOW = code_version(spec())


@pytest.mark.parametrize(
    "changed",
    [
        {"train__params": {"max_iter": 7}},
        {"train__network": "sklearn.linear_model.RidgeClassifier"},
        {"features__use": ["place", "pressure"]},
        {"prepare__drop_duplicates": True},
        {"columns__pressure__max": 1200},
    ],
    ids=str,
)
def test_what_decides_the_model_changes_it(changed: dict[str, Any]) -> None:
    assert code_version(spec(**changed)) != NOW


def test_a_stage_that_works_otherwise_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "CODE_VERSION", "another")
    assert code_version(spec()) != NOW


@pytest.mark.parametrize(
    "changed",
    [{"gate__at_least": 0.7}, {"description": "Rain"}, {"retrain": {}}, {"compute": {"memory": "8Gi"}}, {}],
    ids=str,
)
def test_what_does_not_decide_it_leaves_it(changed: dict[str, Any]) -> None:
    assert code_version(spec(**changed)) == NOW
