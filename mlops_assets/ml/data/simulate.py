"""Simulated card transactions: no public data set has these columns, so the reference use case makes its own.

The patterns are those commonly described for card fraud: at night, for unusually large amounts or for tiny trial
amounts, at a few merchants, and more against old and very young card holders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

BATCH_ROWS = 100_000
MERCHANTS = 40
RISKY_MERCHANTS = 5


def transactions(rows: int, seed: int, *, shifted: bool = False) -> Iterator[pa.RecordBatch]:
    """Simulated transactions in batches: amount, merchant_id, user_age, transaction_hour, is_fraud.

    1 to 3 % are fraud. With `shifted`, amounts are larger, customers younger and nights busier, as after a change of
    the business: an exercise for drift detection.
    """
    import pyarrow as pa

    generator = np.random.default_rng(seed)
    for start in range(0, rows, BATCH_ROWS):
        count = min(BATCH_ROWS, rows - start)
        amount = np.round(generator.lognormal(4.3 if shifted else 3.6, 1.1, count), 2)
        merchant = generator.integers(0, MERCHANTS, count)
        age = np.clip(generator.normal(33 if shifted else 43, 15, count), 18, 95).astype(np.int64)
        hour = np.where(
            generator.random(count) < (0.3 if shifted else 0.12),
            generator.integers(0, 6, count),
            np.clip(generator.normal(14, 4, count), 6, 23).astype(np.int64),
        )
        odds = -9.2 + 3.4 * (hour < 6) + 2.6 * (merchant < RISKY_MERCHANTS) + 2.2 * (amount < 2.5)
        odds += 1.8 * np.clip(np.log(amount / 120), 0, None) + 1.6 * (age > 72) + 1.1 * (age < 21)
        odds += 2.5 * ((hour < 6) & (amount > 200))
        fraud = generator.random(count) < 1 / (1 + np.exp(-1.5 * (odds + 2.2)))
        yield pa.record_batch(
            {
                "amount": amount,
                "merchant_id": np.char.add("m", np.char.zfill(merchant.astype(str), 3)),
                "user_age": age,
                "transaction_hour": hour,
                "is_fraud": fraud,
            }
        )


def write_transactions(path: Path, rows: int, seed: int, *, shifted: bool = False) -> None:
    """Write simulated transactions to a Parquet file, a batch at a time."""
    import pyarrow.parquet as pq

    batches = transactions(rows, seed, shifted=shifted)
    first = next(batches)
    with pq.ParquetWriter(path, first.schema) as writer:
        writer.write_batch(first)
        for batch in batches:
            writer.write_batch(batch)
