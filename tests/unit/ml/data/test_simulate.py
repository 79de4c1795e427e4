"""The simulated transactions: seeded, rare fraud, and a switch that shifts the distribution."""

from __future__ import annotations

import pyarrow as pa
import pytest

from mlops_assets.ml.data.simulate import transactions


def table(rows: int, seed: int, *, shifted: bool = False) -> pa.Table:
    return pa.Table.from_batches(transactions(rows, seed, shifted=shifted))


def test_the_same_seed_gives_the_same_rows() -> None:
    assert table(5_000, 3) == table(5_000, 3)
    assert table(5_000, 3) != table(5_000, 4)


@pytest.mark.parametrize("seed", range(4))
def test_one_to_three_percent_are_fraud(seed: int) -> None:
    fraud = table(150_000, seed)["is_fraud"].to_pandas()
    assert 0.009 < fraud.mean() < 0.03


def test_the_shift_moves_every_number() -> None:
    before, after = table(20_000, 1).to_pandas(), table(20_000, 1, shifted=True).to_pandas()
    assert after.amount.median() > 1.5 * before.amount.median()
    assert after.user_age.mean() < before.user_age.mean() - 5
    assert (after.transaction_hour < 6).mean() > 2 * (before.transaction_hour < 6).mean()


def test_values_keep_the_contract_of_the_model() -> None:
    rows = table(20_000, 1).to_pandas()
    assert rows.amount.min() >= 0
    assert rows.user_age.between(18, 120).all()
    assert rows.transaction_hour.between(0, 23).all()
    assert rows.merchant_id.nunique() == 40
