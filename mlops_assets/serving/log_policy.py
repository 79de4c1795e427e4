"""What of its requests a model's servers keep: `deploy.inference_log` of the YAML."""

from __future__ import annotations

import hashlib
from typing import Self

from pydantic import Field, model_validator

from mlops_assets.ml.values import MOST_DAYS, Value, problem


class InferenceLogPolicy(Value):
    """Which requests are kept, what of them, and for how long."""

    rate: float = Field(default=1.0, ge=0, le=1, description="The share of requests that is kept; 0 is none")
    leave_out: tuple[str, ...] = Field(default=(), description="Columns that are not kept")
    hash: tuple[str, ...] = Field(
        default=(), description="Columns of which a salted digest is kept; the salt is MLOPS_LOG_SALT"
    )
    keep_days: int = Field(default=90, ge=1, le=MOST_DAYS, description="Days after which what was kept is deleted")

    @model_validator(mode="after")
    def _one_fate_each(self) -> Self:
        for index, name in enumerate(self.hash):
            if name in self.leave_out:
                raise problem(f"hash.{index}", f"{name} is left out; remove it from one of the two")
        return self

    def keeps(self, request_id: str) -> bool:
        """Whether a request is kept; of the same id always the same, on every server.

        >>> InferenceLogPolicy(rate=0.0).keeps("a"), InferenceLogPolicy().keeps("a")
        (False, True)
        """
        if self.rate in (0, 1):
            return self.rate == 1
        return int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=8).digest()) < self.rate * 2**64
