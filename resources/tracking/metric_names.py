"""Names of metrics for columns, which may have any name: each column gets one that MLflow takes, and none another's."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST = 250  # what MLflow's database has room for
DIGEST = 8


def metric_names(under: str, columns: Iterable[str]) -> dict[str, str]:
    """The metric of each column, below the name `under`.

    What MLflow does not take becomes an underscore. Where that makes one name of two, or it is too long, the columns
    are told apart by digests.

    >>> metric_names("drift", ["km/h", "sepal length (cm)"])
    {'km/h': 'drift/km/h', 'sepal length (cm)': 'drift/sepal length _cm_'}
    """
    names = {column: f"{under}/{_allowed(column)}" for column in columns}
    same = Counter(names.values())
    return {
        column: name if same[name] == 1 and len(name) <= LONGEST else _told_apart(name, column)
        for column, name in names.items()
    }


def _allowed(column: str) -> str:
    """A name of the letters that are allowed, none of whose parts leads a path elsewhere."""
    parts = re.sub(r"[^\w\-. :/]", "_", column, flags=re.ASCII).split("/")
    return "/".join("_" * max(len(part), 1) if part in ("", ".", "..") else part for part in parts)


def _told_apart(name: str, column: str) -> str:
    digest = hashlib.blake2b(column.encode(), digest_size=DIGEST // 2).hexdigest()
    return f"{name[: LONGEST - DIGEST - 1]}-{digest}"
