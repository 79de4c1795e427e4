"""Have what a model was asked today be of a day that has passed; prints how many files there are of that day."""

import sys
from datetime import UTC, date, datetime

from mlops_assets.drift_demo import put_log_into_the_past
from resources.environment import Environment

model, day = sys.argv[1], date.fromisoformat(sys.argv[2])
lake = Environment.read().lake()
today = f"inference/{model}/{datetime.now(UTC):%Y/%m/%d}/"
before = {item.key for item in lake.store.stored(f"inference/{model}") if not item.key.startswith(today)}
put_log_into_the_past(lake, model, day, before)
print(len(list(lake.store.stored(f"inference/{model}/{day:%Y/%m/%d}"))))
