"""The YAML's block of a roll-out; its other refusals stand among those of all fields, in tests/unit/spec."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mlops_assets.serving.rollout_policy import RolloutPolicy


def test_what_needs_live_requests_has_some() -> None:
    with pytest.raises(ValidationError, match="to refuse there must be live requests; give shadow_requests"):
        RolloutPolicy(shadow_requests=0, canary_requests=0, too_little_traffic="refuse")
    RolloutPolicy(shadow_requests=0, canary_requests=0)


@pytest.mark.parametrize("header", ["X-User", "x user", "", "x_user", "-x", "x" * 64])
def test_a_header_is_written_as_servers_read_it(header: str) -> None:
    with pytest.raises(ValidationError):
        RolloutPolicy(canary_header=header)
