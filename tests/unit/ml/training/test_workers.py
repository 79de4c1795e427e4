"""How several workers share the rows of a step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml.training.workers import Workers, batch_sizes


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 8))
def test_shares_hold_every_row_once_and_their_weights_make_the_mean(total: int, size: int, count: int) -> None:
    rows = torch.arange(total)
    batches = rows.split(batch_sizes(total, size))
    shares = [Workers(rank, count).share(rows, size) for rank in range(count)]
    for index, batch in enumerate(batches):
        taken: list[int] = []
        mean = 0.0
        for share in shares:
            part = share.rows.split(share.sizes)[index]
            assert len(part) >= min(2, len(batch)), "every worker takes part, with rows that can be normalised"
            taken += part[: share.counts[index]].tolist()
            # What DDP makes of the workers' means
            mean += float(part.double().mean()) * share.weights[index] / count
        assert taken == batch.tolist()
        assert mean == pytest.approx(float(batch.double().mean()))


@given(st.integers(1, 200), st.integers(1, 40))
def test_no_batch_is_a_single_row_that_was_left_over(total: int, size: int) -> None:
    sizes = batch_sizes(total, size)
    assert sum(sizes) == total
    assert 1 not in sizes or size == 1 or total == 1
    assert all(size <= given <= size + 1 for given in sizes[:-1])
    assert sizes[-1] <= size + 1
