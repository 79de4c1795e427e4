"""What Dagster shows of a stage that is a table: where it lies, its rows and columns, and what each column is made of.

The keys are Dagster's own (`dagster/column_schema` and the like), so its UI, catalogue and search know them. The first
`SHOWN` columns are shown: each event of a materialization carries them, and a page with thousands is slow.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.ml.data.expression import columns_of_expression
from resources.lake.stores import scheme_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlops_assets.ml.data.contract import NamedColumn, Target
    from resources.lake.lake import Lake

SHOWN = 500


def table_metadata(
    key: dg.AssetKey,
    uri: str,
    rows: int,
    columns: Sequence[dg.TableColumn],
    made_of: Mapping[str, Sequence[tuple[dg.AssetKey, str]]],
) -> dict[str, Any]:
    """Metadata of a materialization; `made_of` names the columns, of other assets, that a column is made of."""
    shown = columns[:SHOWN]
    lineage = {
        column.name: [dg.TableColumnDep(asset_key=asset, column_name=name) for asset, name in made_of[column.name]]
        for column in shown
        if made_of.get(column.name)
    }
    return {
        **table_name(key),
        "dagster/uri": uri,
        "dagster/row_count": rows,
        "dagster/column_schema": dg.TableSchema(columns=shown),
        **({"dagster/column_lineage": dg.TableColumnLineage(lineage)} if lineage else {}),
        **({"columns": f"{len(columns)}, the first {SHOWN} of them shown"} if len(columns) > SHOWN else {}),
    }


def table_name(key: dg.AssetKey) -> dict[str, str]:
    """Metadata of an asset's definition, where Dagster's UI looks for the name."""
    return {"dagster/table_name": ".".join(key.path)}


def contract_columns(contract: Sequence[NamedColumn]) -> list[dg.TableColumn]:
    """The columns that a contract declares.

    >>> from mlops_assets.ml.data.contract import NamedColumn
    >>> [column] = contract_columns([NamedColumn(name="age", type="number", min=0, max=120)])
    >>> column.type, column.description
    ('number', 'from 0 to 120')
    >>> column.constraints
    TableColumnConstraints(nullable=False, unique=False, other=['>= 0', '<= 120'])
    """
    made = list[dg.TableColumn]()
    for column in contract:
        words, rules = "", list[str]()
        if column.min is not None:
            words, rules = f"from {column.min:g}", [f">= {column.min:g}"]
        if column.max is not None:
            words, rules = f"{words} to {column.max:g}".strip(), [*rules, f"<= {column.max:g}"]
        if column.values is not None:
            words = f"one of {listed(column.values)}"
            rules = [f"in ({listed(column.values)})"]
        constraints = dg.TableColumnConstraints(nullable=column.nullable, other=rules)
        made.append(dg.TableColumn(column.name, column.type, description=words or None, constraints=constraints))
    return made


def columns_read_by(target: Target, contract: Sequence[NamedColumn]) -> list[str]:
    """The columns of the source that the target is made of, as the contract writes them."""
    if target.from_ is None:
        return [target.column]
    read = {name.casefold() for name in columns_of_expression(target.from_)}
    return [column.name for column in contract if column.name.casefold() in read]


def feature_sources(names: Sequence[str], inputs: Sequence[NamedColumn]) -> dict[str, list[str]]:
    """The columns that each feature may be made of: itself, or the category that its name begins with.

    >>> from mlops_assets.ml.data.contract import NamedColumn
    >>> inputs = [NamedColumn(name="age", type="number"), NamedColumn(name="place", type="category")]
    >>> feature_sources(["age", "place_Bern"], inputs)
    {'age': ['age'], 'place_Bern': ['place']}
    """
    plain = {column.name for column in inputs if column.type != "category"}
    texts = [column.name for column in inputs if column.type == "category"]
    return {
        name: [name] if name in plain else [text for text in texts if name.startswith(f"{text}_")] for name in names
    }


def address(lake: Lake, place: str) -> str:
    """The URI of a place in the lake, or of one that has an address of its own."""
    if "://" in place:
        return place
    if place.startswith("/"):
        return f"file://{place}"
    root = lake.uri.rstrip("/")
    return f"{root}/{place}" if scheme_of(root) else f"file://{Path(root).absolute()}/{place}"


def listed(values: Sequence[object]) -> str:
    """The first twenty of these, and how many there are beside."""
    return ", ".join(map(str, values[:20])) + (f" and {len(values) - 20} more" if len(values) > 20 else "")
