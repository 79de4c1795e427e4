"""features: what its checks say of the arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlops_assets.assets.features import finite_check, report
from mlops_assets.assets.handles import Features
from mlops_assets.ml.features.feature_set import FeatureSet
from mlops_assets.ml.features.leakage import Leakage, LeakageRule
from tests.training import write_features

if TYPE_CHECKING:
    from pathlib import Path


def test_values_that_are_not_finite_are_counted_by_feature() -> None:
    result = finite_check({"pressure": 3, "humidity": 1})
    assert not result.passed
    assert result.description == "pressure: 3 values are not finite; humidity: 1 values are not finite"
    assert finite_check({}).passed


@pytest.mark.parametrize(
    ("rule", "passed"),
    [(LeakageRule(), False), (LeakageRule(allow=("pressure",)), True), (LeakageRule(threshold=0.999999), True)],
)
def test_the_rule_of_the_yaml_is_applied_to_the_known_scores(tmp_path: Path, rule: LeakageRule, passed: bool) -> None:
    write_features(tmp_path, 10, 3)
    leakage = Leakage(scores={"pressure": 0.99999, "humidity": 0.3})
    check, _ = report(
        Features.model_construct(prefix="w/features", version="v"), FeatureSet.read(tmp_path), leakage, rule, {}
    ).checks
    assert (check.check_name, check.passed) == ("no_leakage", passed)
    assert ("pressure alone gets 100.00%" in str(check.description)) is not passed
    assert check.metadata.keys() == {"pressure"}, "what comes near is shown"
