"""Cron expressions, checked as Dagster takes them."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from mlops_assets.spec.cron import Cron

CRON = TypeAdapter(Cron)


@pytest.mark.parametrize("expression", ["0 3 * * 0", "*/5 * * * *", "@daily"])
def test_what_dagster_takes_is_taken(expression: str) -> None:
    assert CRON.validate_python(expression) == expression


@pytest.mark.parametrize("expression", ["daily", "0 25 * * *", "", 3])
def test_what_dagster_refuses_is_refused_with_an_example(expression: object) -> None:
    with pytest.raises(ValidationError, match="such as '0 3"):
        CRON.validate_python(expression)
