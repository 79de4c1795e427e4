"""Replace the transactions at a prefix of the lake by those of the simulated shift."""

import sys
import tempfile
from pathlib import Path

from mlops_assets.ml.data.simulate import write_transactions
from resources.environment import Environment

store = Environment.read().lake().store
before = list(store.stored(sys.argv[1]))
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "moved.parquet"
    write_transactions(file, rows=100_000, seed=8, shifted=True)
    store.upload(file, f"{sys.argv[1]}/moved.parquet")
for item in before:
    store.delete(item.key)
