"""Requests of a version's inference log that have labels by now, and how both versions answered them."""

from __future__ import annotations

import io
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.errors import DeploymentError
from resources.serving.label_evidence import LabelledRow
from resources.serving.replay import asked_again, logged_requests, replayable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlops_assets.ml.inference.artifact import ModelSignature
    from resources.lake.object_store import ObjectStore
    from resources.serving.golden_rows import Endpoint

DAYS = 7  # labels come late; how far back is looked for them, and for what they are about
LABEL_FILES, LOG_FILES = 500, 500

Labels = dict[str, dict[int, str]]
"""By request and row."""


def newest_labels(store: ObjectStore, model: str, days: int = DAYS) -> Labels:
    """What is known of the rows of a model's requests by labels that were stored in the last days.

    Of two of one row that which was received later counts, as in the table of a day.
    """
    import pyarrow.parquet as pq

    since = datetime.now(UTC) - timedelta(days=days)
    stored = [item for item in store.stored(f"labels/{model}") if item.key.endswith(".parquet")]
    newest = sorted((item for item in stored if item.modified >= since), key=lambda item: item.modified, reverse=True)
    found = dict[tuple[str, int], tuple[tuple[datetime, datetime], str]]()
    for item in newest[:LABEL_FILES]:
        content = store.read(item.key)
        columns = ["request_id", "row", "label", "time", "received"]
        for row in pq.read_table(io.BytesIO(content), columns=columns).to_pylist() if content else ():
            key, told = (row["request_id"], row["row"]), (row["received"], row["time"])
            if key not in found or found[key][0] < told:
                found[key] = told, row["label"]
    labels = Labels()
    for (request_id, row), (_, label) in found.items():
        labels.setdefault(request_id, {})[row] = label
    return labels


def labelled_rows(
    store: ObjectStore,
    model: str,
    version: str,
    limit: int,
    endpoint: Endpoint,
    signature: ModelSignature,
    post: Callable[[str, dict[str, Any], dict[str, str]], dict[str, Any]],
) -> Iterator[LabelledRow]:
    """The newest requests that a version has answered and that have labels, each asked again at `endpoint`.

    Of requests with the same id nobody knows which of them a label is about: these are passed over.
    """
    labels = newest_labels(store, model)
    if not labels:
        return
    logged = logged_requests(store, model, version, limit, only=labels, hours=24 * DAYS, files=LOG_FILES)
    times = Counter(request.request_id for request in logged.requests)
    requests = [request for request in replayable(logged.requests, signature.inputs) if times[request.request_id] == 1]
    for request, answers in asked_again(requests, endpoint, signature, post):
        if isinstance(answers, DeploymentError):
            continue  # the replay before has judged how many of its requests fail
        known: Mapping[int, str] = labels[request.request_id]
        for number, (then, now) in enumerate(zip(request.answers, answers, strict=True)):
            if number in known:
                yield LabelledRow(request.request_id, known[number], then, now)
