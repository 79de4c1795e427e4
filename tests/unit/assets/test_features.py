"""features: what its checks say of the arrays."""

from __future__ import annotations

from mlops_assets.assets.features import finite_check


def test_values_that_are_not_finite_are_counted_by_feature() -> None:
    result = finite_check({"pressure": 3, "humidity": 1})
    assert not result.passed
    assert result.description == "pressure: 3 values are not finite; humidity: 1 values are not finite"
    assert finite_check({}).passed
