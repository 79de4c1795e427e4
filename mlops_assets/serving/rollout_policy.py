"""How a version is proved on real requests before it takes over: `deploy.rollout` of the YAML."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, Self

from pydantic import Field, model_validator

from mlops_assets.ml.values import Duration, Value, problem


class RolloutPolicy(Value):
    """What a version must show beside the champion, on how many requests, and what ends its roll-out."""

    replay_requests: int = Field(
        default=200, ge=0, le=10_000, description="Logged requests that the version answers first; 0 is none"
    )
    shadow_requests: int = Field(
        default=200, ge=0, description="Live requests of which it gets a copy, and its answers nobody; 0 is none"
    )
    shadow_percent: float = Field(default=10, gt=0, le=100, description="The share of live requests that are copied")
    canary_requests: int = Field(default=200, ge=0, description="Live requests that it answers itself; 0 is none")
    canary_percent: float = Field(default=10, gt=0, le=50, description="The share of live requests that it answers")
    canary_header: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        description="A header by whose value requests are shared out, in lower case, so that one user sees one version",
    )
    deadline: Duration = Field(
        default=timedelta(seconds=1),
        description="After which the champion answers a request that it was to answer; once for each MiB of the body",
    )
    max_error_rate: float = Field(default=0.01, ge=0, le=1, description="The most of its requests that may fail")
    max_latency_ratio: float = Field(
        default=1.5, ge=1, description="How much longer its 99th percentile may be, where that is more than 5 ms"
    )
    max_changed: float = Field(
        default=0.2,
        ge=0,
        description="How far its answers may be from the champion's: the share of labels that differ; of numbers the "
        "mean difference, in spreads of the champion's, which are standard deviations that outliers do not decide",
    )
    judge_by_labels: bool = Field(
        default=True,
        description="Let labels of logged requests judge a version that answers farther from the champion than "
        "max_changed: it goes on where it is better by at least 50 of them, by more than chance",
    )
    patience: Duration = Field(default=timedelta(minutes=10), description="How long shadow and canary each may take")
    too_little_traffic: Literal["promote", "hold", "refuse"] = Field(
        default="promote",
        description="What becomes of it where there are too few requests: it is promoted on its replay alone, waits "
        "for an hour, or is refused",
    )
    bake: Duration | None = Field(
        default=timedelta(minutes=1), description="How long the version before is kept running after the promotion"
    )

    @model_validator(mode="after")
    def _proves_something(self) -> Self:
        if self.too_little_traffic != "promote" and not (self.shadow_requests or self.canary_requests):
            what = f"to {self.too_little_traffic} there must be live requests; give shadow_requests or canary_requests"
            raise problem("too_little_traffic", what)
        return self
