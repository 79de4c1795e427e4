"""What the figures of a GPU are made of; the figures themselves need one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.gpu import bytes_of_row, rows_per_second

PROJECT = Path(__file__).parents[3]


def test_the_speed_is_that_of_a_training_on_a_gpu() -> None:
    assert rows_per_second("epoch 1\nbest epoch 2 of 3, 1,234,567 rows/s on cuda\n") == 1_234_567
    with pytest.raises(SystemExit, match="no training on a GPU"):
        rows_per_second("best epoch 2 of 3, 1,234,567 rows/s on cpu")


def test_weights_count_less_in_a_larger_batch_and_activations_do_not() -> None:
    assert bytes_of_row(32, [64], 1 << 40) == pytest.approx(4 * (3 * 32 + 5 * 64 + 5), rel=1e-6)
    assert bytes_of_row(32, [64], 1024) > bytes_of_row(32, [64], 65_536)


def test_it_is_found_without_the_platform() -> None:
    program = "import sys, bench.__main__, bench.gpu; print('dagster' in sys.modules, 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert found.stdout.strip() == "False False"
