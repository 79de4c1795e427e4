"""Which requests are kept."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mlops_assets.serving.log_policy import InferenceLogPolicy


def test_of_many_requests_the_share_is_kept_and_of_each_always_the_same() -> None:
    policy = InferenceLogPolicy(rate=0.25)
    kept = [policy.keeps(f"request-{index}") for index in range(20_000)]
    assert 0.24 < sum(kept) / len(kept) < 0.26
    assert kept == [policy.keeps(f"request-{index}") for index in range(20_000)]


def test_a_column_is_left_out_or_hashed_and_not_both() -> None:
    with pytest.raises(ValidationError, match="name is left out; remove it from one of the two"):
        InferenceLogPolicy(leave_out=("name",), hash=("name",))
