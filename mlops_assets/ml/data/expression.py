"""SQL expressions over the columns of one row, as DuckDB parses them: what they read, and that they do nothing else."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

NOT_OF_ONE_ROW = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window function",
    "STAR": "*",
    "PARAMETER": "a parameter",
    "POSITIONAL_REFERENCE": "#",
}


@functools.lru_cache(maxsize=256)
def columns_of_expression(expression: str) -> frozenset[str]:
    """The names of the columns that an expression reads, as it writes them.

    Raises:
        DataError: it is not one expression whose value depends on the columns of its row alone.
    """
    import duckdb

    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        # No parameters of DuckDB's client: for the first one it imports pandas, which takes 0.3 s
        statement = _literal(f"SELECT ({expression}\n)")
        (tree,) = connection.execute(f"SELECT json_serialize_sql({statement})").fetchone() or ("",)
        parsed = json.loads(tree)
        if parsed["error"]:
            remedy = 'correct it, with names that SQL knows in double quotes, such as "at"'
            raise DataError(f"{expression} is no SQL expression ({parsed['error_message']})", remedy=remedy)
        if not _is_one_expression(parsed["statements"]):
            what = f"{expression} is no SQL expression, but more than one"
            raise DataError(what, remedy="give one expression over the columns of a row")
        nodes = list(_nodes(parsed["statements"]))
        functions = {node["function_name"] for node in nodes if node["class"] == "FUNCTION"}
        for node in nodes:
            if node["class"] in NOT_OF_ONE_ROW:
                what = f"{expression} has {NOT_OF_ONE_ROW[node['class']]}"
                raise DataError(what, remedy="give one expression over the columns of a row")
        for name in sorted(functions):
            _function_is_of_one_row(connection, expression, name)
    lambdas = {name for node in nodes if node["class"] == "LAMBDA" for name in _lambda_parameters(node)}
    return frozenset(node["column_names"][0] for node in nodes if node["class"] == "COLUMN_REF") - lambdas


def _literal(text: str) -> str:
    """A text in SQL, where none has a NUL."""
    return "'" + text.replace("'", "''").replace("\0", "'||chr(0)||'") + "'"


def _is_one_expression(statements: list[Any]) -> bool:
    """Whether these are `SELECT (expression)` alone, and the expression has not closed the brackets around it."""
    if len(statements) != 1 or statements[0]["node"]["type"] != "SELECT_NODE":
        return False
    node = statements[0]["node"]
    clauses = ("where_clause", "having", "qualify", "sample", "group_expressions", "group_sets", "modifiers")
    return (
        len(node["select_list"]) == 1
        and not node["select_list"][0]["alias"]
        and node["from_table"]["type"] == "EMPTY"
        and not any(node[clause] for clause in clauses)
        and not node["cte_map"]["map"]
    )


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """All parts of an expression."""
    if isinstance(tree, list):
        for item in tree:
            yield from _nodes(item)
    elif isinstance(tree, dict):
        if isinstance(tree.get("class"), str):
            yield tree
        for item in tree.values():
            yield from _nodes(item)


def _lambda_parameters(node: dict[str, Any]) -> Iterator[str]:
    for part in _nodes(node.get("lhs")):
        if part["class"] == "COLUMN_REF":
            yield part["column_names"][0]


def _function_is_of_one_row(connection: Any, expression: str, name: str) -> None:
    known = connection.execute(
        "SELECT function_type, stability, coalesce(macro_definition, '') FROM duckdb_functions() "
        f"WHERE function_name = lower({_literal(name)})"
    ).fetchall()
    if not known:
        raise DataError(f"{expression}: there is no function {name}", remedy="see DuckDB's list of functions")
    kinds = {kind for kind, _, _ in known}
    if not kinds & {"scalar", "macro"}:
        what = f"{expression}: {name} is a function of many rows"
        raise DataError(what, remedy="give one expression over the columns of a row")
    if any(stability not in (None, "CONSISTENT") for _, stability, _ in known) or any(
        "current_" in definition for _, _, definition in known
    ):
        what = f"{expression}: {name} gives another value at each time"
        raise DataError(what, remedy="give an expression that depends on the columns of a row alone")
