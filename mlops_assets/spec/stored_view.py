"""Feature views in a model's YAML: where their values lie, and whether they fit the model's other blocks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from mlops_assets.ml.data.feature_view import FeatureView
from mlops_assets.ml.values import did_you_mean, problem
from mlops_assets.spec.source import SourceObjects

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlops_assets.ml.data.contract import Column

VIEW_NAME = r"(?=.{1,32}$)[a-z][a-z0-9]*(_[a-z0-9]+)*"  # of a table in the online store


class ViewSource(SourceObjects):
    """Where a view's values lie: a row for each entity and moment at which they became known."""

    event_time: str = Field(min_length=1, description="Column with the moment from which on a row's values are known")


class StoredView(FeatureView):
    """Features that are kept by entity and time, where they come from, and what counts as too old."""

    source: ViewSource = Field(description="Where the view's values lie")

    @model_validator(mode="after")
    def _columns_differ(self) -> Self:
        for name in self.features:
            if name in self.entity.values():
                raise problem(f"features.{name}", f"{name} names the entity in the source; it is no feature of it")
            if name == self.source.event_time:
                raise problem(f"features.{name}", f"{name} is the time of the source's rows; it is no feature")
        if self.source.event_time in self.entity.values():
            what = f"{self.source.event_time} names the entity in the source; name the column with the time"
            raise problem("source.event_time", what)
        return self

    @property
    def rules(self) -> FeatureView:
        """The part that decides which value a row gets, once the source's rows are there."""
        return FeatureView(**{name: getattr(self, name) for name in FeatureView.model_fields})


def check_views(
    views: Mapping[str, StoredView],
    columns: Mapping[str, Column],
    target: str,
    event_time: str | None,
    used: Sequence[str],
) -> None:
    """Refuse feature views that do not fit a model's own columns, its target, the features it uses or one another."""
    found_in = dict[str, str]()
    own = {name.casefold(): name for name in (*columns, target)}
    for view_name, view in views.items():
        where = f"features.from_store.{view_name}"
        if not re.fullmatch(VIEW_NAME, view_name):
            what = f"{view_name!r} is no name of a view; give small letters, digits and single underscores, 32 at most"
            raise problem(where, what)
        if event_time is None:
            what = "a row gets what was known at its time, and rows have none; name the column in source.event_time"
            raise problem(where, what)
        for name in view.entity:
            _check_entity(f"{where}.entity.{name}", name, columns, target)
        for name in view.features:
            feature, folded = f"{where}.features.{name}", name.casefold()
            if folded in own:
                raise problem(feature, f"{own[folded]} is a column of the model's own rows; rename it in the source")
            other = found_in.setdefault(folded, view_name)
            if other != view_name:
                raise problem(feature, f"{other} has a feature of this name as well; rename one in its source")
            if name not in used:
                raise problem(feature, f"{name} is not used; add it to features.use, or remove it here")


def _check_entity(where: str, name: str, columns: Mapping[str, Column], target: str) -> None:
    if name == target:
        raise problem(where, f"{name} is the target, which nobody knows who asks")
    if name not in columns:
        raise problem(where, f"{name} is not among the columns{did_you_mean(name, columns)}: {', '.join(columns)}")
    if columns[name].type != "category":
        kind = columns[name].type
        raise problem(where, f"{name} is a {kind}, and an entity is known by its text; declare it as a category")
