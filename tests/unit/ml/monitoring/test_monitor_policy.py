"""`monitor` of the YAML."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mlops_assets.ml.monitoring.monitor_policy import MonitorPolicy


def test_a_window_is_whole_days() -> None:
    assert (MonitorPolicy().days, MonitorPolicy.model_validate({"window": "48h"}).days) == (7, 2)
    with pytest.raises(ValidationError, match="a window is whole days; give it with the unit d"):
        MonitorPolicy.model_validate({"window": "36h"})
