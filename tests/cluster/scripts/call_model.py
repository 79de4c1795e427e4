"""Ask a model by its Service all the time, and say each second how many answers came, and of which version."""

import collections
import json
import sys
import threading
import time
import urllib.request

from resources.environment import Environment

model = sys.argv[1]
store = Environment.read().lake().store
signature = store.list(f"served/{model}/*/model.json")[0].key
rows = json.loads(store.read(signature))["golden"]["rows"]
url = f"http://{model.replace('_', '-')}-predictor/v1/models/{model}:predict"
counts, failures = collections.Counter(), []


def ask(seed):
    number = seed
    while True:
        number += 1
        body = json.dumps({"instances": [rows[number % len(rows)]]}).encode()
        try:
            request = urllib.request.Request(url, body, {"content-type": "application/json"})
            with urllib.request.urlopen(request, timeout=20) as answer:
                counts[json.load(answer)["model_version"]] += 1
        except Exception as error:
            failures.append(repr(error))
        time.sleep(0.02)


for seed in range(8):
    threading.Thread(target=ask, args=(seed,), daemon=True).start()
while True:
    time.sleep(1)
    print(json.dumps({"versions": counts, "failures": failures[:5], "failed": len(failures)}), flush=True)
