"""Feature views: values that are kept by entity and time, which of them a row gets, and what it gets without one.

These are types of the YAML's `features.from_store`, and of the join, the online store and the look-up that keep to
them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from mlops_assets.ml.data.contract import ColumnRules, NamedColumn
from mlops_assets.ml.values import Duration, Value, problem

if TYPE_CHECKING:
    from datetime import datetime

EVENT_TIME = "event_timestamp"  # of a view's rows, as Feast calls it
FEATURE_NAME = "[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*"  # Feast joins names by two underscores
Scalar = bool | float | str
# A null of YAML is what one writes who means the word
Missing = Annotated[
    Literal["refuse", "null", "default"], BeforeValidator(lambda value: "null" if value is None else value)
]


class StoredFeature(ColumnRules):
    """What a feature of a view looks like."""

    default: Scalar | None = Field(
        default=None, description="What a row gets without a value, where the view says `missing: default`"
    )

    @model_validator(mode="after")
    def _default_fits(self) -> Self:
        if self.type == "timestamp":
            raise problem("type", "a timestamp is no feature; use number, category or boolean")
        if self.default is None:
            return self
        kinds = {"number": float, "category": str, "boolean": bool}
        if not isinstance(self.default, kinds[self.type]):
            raise problem("default", f"{self.default!r} is no {self.type}; give one")
        if self.values is not None and self.default not in self.values:
            raise problem("default", f"{self.default!r} is none of its values: {', '.join(self.values)}")
        if isinstance(self.default, float):
            low, high = self.min, self.max
            if (low is not None and self.default < low) or (high is not None and self.default > high):
                raise problem("default", f"{self.default:g} lies outside of its own min and max")
        return self


class FeatureView(Value):
    """Features of one kind of entity, and which of their values a row gets: the newest that was known at its time."""

    entity: dict[str, str] = Field(
        min_length=1,
        max_length=8,
        description="Columns of the model that name the entity, each with the column of the view's source it equals",
    )
    features: dict[str, StoredFeature] = Field(
        min_length=1, description="The view's features, by their column in its source"
    )
    max_age: Duration = Field(description="How old a value may be, seen from the row's time, to count")
    missing: Missing = Field(
        default="refuse",
        description="What a row gets without a value that counts: `refuse` drops it in training and answers a request "
        "with an error, `null` leaves it empty, `default` takes each feature's default",
    )

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if len(set(self.entity.values())) < len(self.entity):
            raise problem("entity", "two columns of the model equal one of the source; give each its own")
        for name, feature in self.features.items():
            if not re.fullmatch(FEATURE_NAME, name):
                what = f"{name!r} is no name that the store takes; give letters, digits and single underscores"
                raise problem(f"features.{name}", what)
            if name == EVENT_TIME:
                raise problem(f"features.{name}", f"{name} is what the store calls a row's time; rename it")
            if self.missing == "default" and feature.default is None:
                raise problem(f"features.{name}", f"missing is default, and {name} has none; give it a default")
            if self.missing != "default" and feature.default is not None:
                where = f"features.{name}.default"
                raise problem(where, f"missing is {self.missing}; remove it, or set missing to default")
        return self

    @property
    def columns(self) -> tuple[NamedColumn, ...]:
        """The features as columns of a model's rows."""
        return tuple(
            NamedColumn(
                name=name,
                nullable=self.missing == "null",
                **{field: getattr(feature, field) for field in ColumnRules.model_fields},
            )
            for name, feature in self.features.items()
        )

    def counts(self, known_at: datetime | None, at: datetime) -> bool:
        """Whether a value counts for a row of the time `at`: it was known by then, and is not too old."""
        return known_at is not None and known_at <= at <= known_at + self.max_age

    def value(self, feature: str, known_at: datetime | None, value: Scalar | None, at: datetime) -> Scalar | None:
        """What a row of the time `at` gets of a feature whose newest value became known at `known_at`."""
        if value is not None and self.counts(known_at, at):
            return value
        return self.features[feature].default if self.missing == "default" else None
