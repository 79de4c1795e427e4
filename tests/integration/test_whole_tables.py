"""Any table: a model whose served answers are the offline ones, or one clear refusal; never a library's exception."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, event, given, settings

from tests.tables import tables
from tests.whole_life import refusal

if TYPE_CHECKING:
    from tests.tables import Table

# What libraries say of themselves; a sentence of ours may quote one, in brackets
RAW = re.compile(r"^(Traceback|\w+Error:|Required inputs|\[ONNXRuntimeError\])|Exception|<class|None None")
MANY, SHARES = int(os.environ.get("MLOPS_TABLES", "5000")), 4
ANY = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def is_served_or_refused(table: Table) -> None:
    """Take the table through a whole life, and look at what became of it."""
    with tempfile.TemporaryDirectory() as scratch:
        table.write(Path(scratch, "lake/t"))
        told = refusal(table.attributes, Path(scratch))
    event("served" if told is None else re.sub(r"[\d'\"].*", "", told)[:60])
    assert told is None or not RAW.search(told), told


@settings(max_examples=100, **ANY)
@given(table=tables())
def test_any_table_is_served_as_it_was_trained_or_refused_with_a_sentence(table: Table) -> None:
    is_served_or_refused(table)


@pytest.mark.faults
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("share", range(SHARES))  # by several processes at once
@settings(max_examples=MANY // SHARES, **ANY)
@given(table=tables())
def test_so_is_any_of_many_tables(share: int, table: Table) -> None:
    is_served_or_refused(table)
