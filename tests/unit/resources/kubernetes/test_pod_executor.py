"""The executor: what it reads of a step before it starts its pod."""

from __future__ import annotations

import json

from mlops_assets.assets.pod_template import op_tags
from resources.kubernetes.pod_executor import policy_of
from tests.support import TORCH, spec


def test_the_policy_of_a_step_is_that_of_its_tags() -> None:
    model = spec(train={**TORCH, "compute": {"gpu": 1, "start_within": "5m", "retries": {"infrastructure": 7}}})
    tags = {name: json.dumps(value) for name, value in op_tags(model, "trained_model").items()}
    policy = policy_of(tags)
    assert (policy.start_within.total_seconds(), policy.retries.infrastructure, policy.retries.code) == (300, 7, 1)
