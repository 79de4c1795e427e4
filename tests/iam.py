"""IAM's decision on a request, by its documented rules, for the policies that Terraform renders.

moto enforces neither conditions nor bucket policies, and has no policy simulator. What is not known here, such as an
operator of a condition, raises, so that no policy counts as understood that is not.
"""

from __future__ import annotations

import re
from typing import Any


def is_allowed(policies: list[dict[str, Any]], action: str, resource: str, **context: str) -> bool:
    """Whether these policies together allow a request: some statement allows it, and none denies it.

    `context` has the condition keys of the request, with `_` for what is no letter: `s3_prefix="lake/iris"`.
    """
    statements = [statement for policy in policies for statement in policy["Statement"]]
    effects = {statement["Effect"] for statement in statements if _applies(statement, action, resource, context)}
    return effects == {"Allow"}


def _applies(statement: dict[str, Any], action: str, resource: str, context: dict[str, str]) -> bool:
    assert not statement.keys() - {"Sid", "Effect", "Action", "Resource", "Principal", "Condition"}, statement
    assert statement.get("Principal", "*") in ("*", {"AWS": "*"}), statement
    return (
        any(_like(action.lower(), pattern.lower()) for pattern in _listed(statement["Action"]))
        and any(_like(resource, pattern) for pattern in _listed(statement["Resource"]))
        and all(
            _holds(operator, context.get(re.sub(r"\W", "_", key)), _listed(values))
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _holds(operator: str, given: str | None, values: list[str]) -> bool:
    """A condition on a key that the request lacks does not hold, but for Null, which asks just that."""
    if operator == "Null":
        return (given is None) is (values == ["true"])
    if given is None:
        return False
    if operator in ("StringEquals", "Bool"):
        return given in values
    assert operator == "StringLike", operator
    return any(_like(given, value) for value in values)


def _like(text: str, pattern: str) -> bool:
    """`*` stands for anything, slashes too, and `?` for one character."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), text, re.DOTALL) is not None


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
