"""What is kept of a column's values: counts and areas between edges, or counts of categories, in bounded memory.

A window is counted in the cells of its reference, so that two profiles are all that a comparison needs.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mlops_assets.ml.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


SAMPLE = 131_072  # rows whose quantiles are the edges; those of a prepared part are in a random order
EXACT_ROWS = 1_000  # Evidently compares every value of a reference of so many rows
MAX_CATEGORIES, MAX_NEW = 1_000, 10_000
FEW = 6  # Evidently asks whether there are more than two values, and more than five
WHOLE_NAME, NAME_BEGINS = 64, 40
Reals = NDArray[np.float32] if TYPE_CHECKING else Any


class NumberProfile(Value):
    """A column of numbers as float32, as a model reads them; infinity counts as missing.

    The line is cut at `edges`. `at` has the values on each edge, `between` those below the first one, between two, and
    above the last one, and `areas` the sum of their distances to the edge above them (of the last cell: below them).
    """

    kind: Literal["number"] = "number"
    rows: int
    missing: int
    edges: tuple[float, ...]
    at: tuple[int, ...]
    between: tuple[int, ...]
    areas: tuple[float, ...]
    std: float
    others: int
    """How many different values lie on no edge, where there are few edges: 6 stands for more than five."""

    @property
    def outside(self) -> int:
        """Values below the first edge or above the last one."""
        return self.between[0] + self.between[-1] if self.edges else 0


class CategoryProfile(Value):
    """A column of texts: the rows of each of `names`, and those of all others together."""

    kind: Literal["category"] = "category"
    rows: int
    missing: int
    names: tuple[str, ...]
    counts: tuple[int, ...]
    rest: int
    others: int
    """How many other categories there are; of a window, `MAX_NEW` stands for that many and more."""
    new: dict[str, int] = Field(default_factory=dict)
    """Of a window: the most frequent ones of the others."""


ColumnProfile = Annotated[NumberProfile | CategoryProfile, Field(discriminator="kind")]


class EdgeFinder:
    """Finds the edges of a column, in a first pass: all its values where they are few, else quantiles and both ends."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.rows, self.least, self.most = 0, np.float32(np.inf), np.float32(-np.inf)
        self.distinct: Reals | None = np.empty(0, np.float32)
        self.sample, self.sampled = list[Reals](), 0

    def add(self, values: Reals) -> None:
        """Look at some more of the values."""
        values = values[np.isfinite(values)]
        if not len(values):
            return
        self.rows += len(values)
        self.least, self.most = min(self.least, values.min()), max(self.most, values.max())
        if self.distinct is not None:
            found = np.union1d(self.distinct, values)
            self.distinct = found if len(found) <= max(self.limit, EXACT_ROWS) else None
        if self.sampled < SAMPLE:
            self.sample.append(values[: SAMPLE - self.sampled])
            self.sampled += len(self.sample[-1])

    def edges(self) -> Reals:
        """The edges, in their order."""
        if self.distinct is not None and (self.rows <= EXACT_ROWS or len(self.distinct) <= self.limit):
            return self.distinct
        shares = np.linspace(0, 1, self.limit - 1)
        quantiles = np.quantile(np.concatenate(self.sample), shares, method="inverted_cdf")
        return np.union1d(quantiles.astype(np.float32), np.array([self.least, self.most]))


class NumberTally:
    """Counts a column's values in the cells of some edges, batch by batch."""

    def __init__(self, edges: Reals) -> None:
        self.edges = edges
        self.at, self.between = np.zeros(len(edges), np.int64), np.zeros(len(edges) + 1, np.int64)
        self.areas = np.zeros(len(edges) + 1)
        self.rows = self.missing = 0
        self.origin, self.sums = 0.0, np.zeros(2)
        self.others = set[float]()

    def add(self, values: Reals) -> None:
        """Count some more of the values; NaN and infinity are missing."""
        finite = values[np.isfinite(values)]
        self.missing += len(values) - len(finite)
        if not len(finite):
            return
        exact = finite.astype(np.float64)
        if not self.rows:
            self.origin = float(exact.mean())
        self.rows += len(finite)
        self.sums += (exact - self.origin).sum(), ((exact - self.origin) ** 2).sum()
        edges, number = self.edges, len(self.edges)
        if not number:  # the reference has no value
            self.between += len(finite)
            return
        above = np.searchsorted(edges, finite)
        nearest = np.minimum(above, number - 1)
        on_edge = edges[nearest] == finite
        self.at += np.bincount(above[on_edge], minlength=number)
        off, places = exact[~on_edge], above[~on_edge]
        self.between += np.bincount(places, minlength=number + 1)
        distances = np.abs(edges[nearest[~on_edge]].astype(np.float64) - off)
        self.areas += np.bincount(places, weights=distances, minlength=number + 1)
        if number < FEW and len(self.others) < FEW:
            self.others.update(np.unique(off)[:FEW].tolist())

    def profile(self) -> NumberProfile:
        """What was counted."""
        mean, square = self.sums / max(self.rows, 1)
        return NumberProfile(
            rows=self.rows,
            missing=self.missing,
            edges=tuple(map(_short, self.edges)),
            at=tuple(self.at.tolist()),
            between=tuple(self.between.tolist()),
            areas=tuple(float(f"{area:.8g}") for area in self.areas),
            std=float(np.sqrt(max(square - mean**2, 0.0))),
            others=min(len(self.others), FEW),
        )


class CategoryTally:
    """Counts a column's texts by the names of a reference, batch by batch; of other texts a bounded number is told."""

    def __init__(self, names: Iterable[str]) -> None:
        self.counts = dict.fromkeys(names, 0)
        self.new = Counter[str]()
        self.missing = self.rest = 0

    def add(self, values: Any) -> None:
        """Count some more of the values, a pyarrow array of texts; empty ones are missing, as for a model."""
        for name, count in zip(*_counted(values), strict=True):
            if not name:
                self.missing += count
                continue
            known = named(name)
            if known in self.counts:
                self.counts[known] += count
                continue
            self.rest += count
            if known in self.new or len(self.new) < MAX_NEW:
                self.new[known] += count

    def profile(self) -> CategoryProfile:
        """What was counted."""
        return CategoryProfile(
            rows=sum(self.counts.values()) + self.rest,
            missing=self.missing,
            names=tuple(self.counts),
            counts=tuple(self.counts.values()),
            rest=self.rest,
            others=len(self.new),
            new=dict(sorted(self.new.items(), key=lambda item: (-item[1], item[0]))[:5]),
        )


def category_profile(counts: Mapping[str, int], missing: int, rows: int, categories: int) -> CategoryProfile:
    """The profile of a reference, of the rows of its most frequent categories; it has `categories` in `rows`."""
    kept = {named(name): count for name, count in list(counts.items())[:MAX_CATEGORIES]}
    return CategoryProfile(
        rows=rows,
        missing=missing,
        names=tuple(kept),
        counts=tuple(kept.values()),
        rest=rows - sum(kept.values()),
        others=categories - len(kept),
    )


def named(text: str) -> str:
    """How a category is kept: a long text by its beginning and a digest, which tell it from others as well.

    >>> named("Bern"), len(named("x" * 1000))
    ('Bern', 58)
    """
    if len(text) <= WHOLE_NAME:
        return text
    return f"{text[:NAME_BEGINS]}… {hashlib.blake2b(text.encode('utf-8', 'replace'), digest_size=8).hexdigest()}"


def _counted(values: Any) -> tuple[list[str | None], list[int]]:
    import pyarrow.compute as pc

    found = pc.call_function("value_counts", [values])
    return found.field("values").to_pylist(), found.field("counts").to_pylist()


def _short(value: np.floating[Any]) -> float:
    """The float with the fewest digits that is the same as float32."""
    return float(str(np.float32(value)))
