"""How often a drift report is wrong, on seeded windows of a reference that has more than 1,000 rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.drift_windows import DRIFTED, EFFECT, UNDRIFTED, windows

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.long
def test_of_500_windows_without_drift_at_most_one_in_fifty_alarms(tmp_path: Path) -> None:
    assert sum(window.alarms for window in windows(tmp_path, UNDRIFTED, 0.0)) <= 0.02 * UNDRIFTED


def test_of_100_windows_whose_important_column_moved_by_a_quarter_of_a_deviation_99_alarm(tmp_path: Path) -> None:
    assert sum(window.alarms for window in windows(tmp_path, DRIFTED, EFFECT)) >= 0.99 * DRIFTED
