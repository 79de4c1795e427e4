"""The base of everything that is stored or configured, and the words that all rooms share."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Task = Literal["regression", "binary_classification", "multiclass_classification"]


class Value(BaseModel):
    """An immutable value that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")
