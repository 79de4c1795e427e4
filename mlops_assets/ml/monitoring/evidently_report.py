"""Evidently's own report, as a page: on a sample of the window, and on one that has the reference profile's shape.

All that is known here of Evidently's interface is in this module. Our figures do not come from it.
"""

from __future__ import annotations

from itertools import chain, count
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.ml.foreign_text import without_markup
from mlops_assets.ml.monitoring.column_profile import EXACT_ROWS, NumberProfile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlops_assets.ml.monitoring.column_profile import ColumnProfile

SAMPLE_ROWS = 5_000  # more than EXACT_ROWS, so that Evidently chooses the methods of the whole reference


def write_evidently_report(reference: Mapping[str, ColumnProfile], window: Any, file: Path) -> None:
    """Write the HTML page of `DataDriftPreset` about the columns of `reference` that have values in the window, which
    is a DataFrame of pandas.

    Evidently puts texts into a script of the page as they are, and callers choose them, or who wrote the first line of
    a CSV file: markup in values and in names of columns is replaced.
    """
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    names = _harmless_names([name for name in reference if window[name].notna().any()])
    shown = {names[name]: column for name, column in reference.items() if name in names}
    numbers = [name for name, column in shown.items() if isinstance(column, NumberProfile)]
    definition = DataDefinition(
        numerical_columns=numbers, categorical_columns=[name for name in shown if name not in numbers]
    )
    old = pd.DataFrame({name: pd.Series(sample_of(column)) for name, column in shown.items()})
    asked = window.rename(columns=names)
    now, before = (Dataset.from_pandas(_harmless(frame[list(shown)], numbers), definition) for frame in (asked, old))
    report: Any = Report([DataDriftPreset()]).run(now, before)
    report.save_html(str(file))


def _harmless_names(columns: Sequence[str]) -> dict[str, str]:
    """What columns are called on the page: no two of them the same."""
    names = dict[str, str]()
    for column in columns:
        name = without_markup(column)
        numbered = (f"{name} ({number})" for number in count(len(names)))
        names[column] = next(free for free in chain((name,), numbered) if free not in names.values())
    return names


def _harmless(frame: Any, numbers: Sequence[str]) -> Any:
    import pandas as pd

    columns = {
        name: values if name in numbers else values.map(without_markup, na_action="ignore")
        for name, values in frame.items()
    }
    return pd.DataFrame(columns)


def sample_of(column: ColumnProfile) -> Any:
    """Values that are distributed as a column was: all of a small one, else 5,000, evenly spread over its ranks."""
    rows = column.rows if column.rows <= EXACT_ROWS else SAMPLE_ROWS
    ranks = (np.arange(rows) + 0.5) * column.rows / rows
    if not isinstance(column, NumberProfile):
        names = np.array([*column.names, "(rest)"], dtype=object)
        return names[np.searchsorted(np.cumsum([*column.counts, column.rest]), ranks)]
    edges = np.array(column.edges)
    cells = np.zeros(2 * len(edges) + 1, np.int64)
    cells[::2], cells[1::2] = column.between, column.at
    ends = np.cumsum(cells)
    places = np.searchsorted(ends, ranks)
    into = (ranks - (ends - cells)[places]) / cells[places]
    lower, upper = edges[np.maximum(places // 2 - 1, 0)], edges[np.minimum(places // 2, len(edges) - 1)]
    return np.where(places % 2, upper, lower + into * (upper - lower))
