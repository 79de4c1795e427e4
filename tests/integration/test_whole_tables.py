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

EXAMPLES = int(os.environ.get("MLOPS_TABLES", "300"))
# What libraries say of themselves; a sentence of ours may quote one, in brackets
RAW = re.compile(r"^(Traceback|\w+Error:|Required inputs|\[ONNXRuntimeError\])|Exception|<class|None None")


@pytest.mark.timeout(3_600)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(table=tables())
def test_any_table_is_served_as_it_was_trained_or_refused_with_a_sentence(table: Table) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        table.write(Path(scratch, "lake/t"))
        told = refusal(table.attributes, Path(scratch))
    event("served" if told is None else re.sub(r"[\d'\"].*", "", told)[:60])
    assert told is None or not RAW.search(told), told
