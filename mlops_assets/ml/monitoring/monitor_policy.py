"""How the traffic of a deployed model is watched: `monitor` of the YAML."""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from pydantic import Field, model_validator

from mlops_assets.ml.values import Duration, Value, problem

DAY = timedelta(days=1)


class MonitorPolicy(Value):
    """Which rows a drift report is about, and when it warns."""

    drift_threshold: float = Field(
        default=0.3, gt=0, le=1, description="The share of columns, by importance, above which drift is told"
    )
    window: Duration = Field(default=7 * DAY, description="Whole days that a report is about, its own being the last")
    min_rows: int = Field(default=500, ge=1, description="Rows below which a report has no figures")
    stale_after: Duration | None = Field(
        default=30 * DAY,
        description="Age of the newest version above which the alert ModelStale tells it; null is never",
    )

    @model_validator(mode="after")
    def _whole_days(self) -> Self:
        if self.window % DAY:
            raise problem("window", "a window is whole days; give it with the unit d, such as 7d")
        return self

    @property
    def days(self) -> int:
        """The days of a window."""
        return self.window // DAY
