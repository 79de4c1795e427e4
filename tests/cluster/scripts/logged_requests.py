"""Print the ids of the requests that a model's inference log has."""

import io
import sys

import pyarrow.parquet as pq

from resources.environment import Environment

store = Environment.read().lake().store
for item in store.stored(f"inference/{sys.argv[1]}"):
    table = pq.read_table(io.BytesIO(store.read(item.key) or b""), use_threads=False)
    print(*set(table["request_id"].to_pylist()), sep="\n")
