"""Keeps what was asked and answered, and the labels that come later, as Parquet files in the lake.

A request only puts what it has into a bounded queue. A thread makes files of it, by hour: when enough has come, when
the oldest has waited long enough, and when the server stops. Where the lake is away the files wait, also bounded, and
then the queue fills: what does not fit is dropped, counted and said. A server that is killed loses what it had not
stored yet, at most what came in `age_s`.

`inference/<model>/<yyyy>/<mm>/<dd>/<hh>/<server>-<n>.parquet` has a row for each row that was asked about: request_id,
row, time (when it was answered), version, role (champion; or canary or mirror of a candidate's, whose answer the caller
got or did not get), latency_ms, `input:<column>` for each column, `digest:<column>` where a digest of it is kept
alone, and `output:<name>` for each output of the graph. A text or a digest is a text, a number float32, a label the
text of it. `labels/...`, of the same form, has request_id, row, label (a text), time (when it became known) and
received. A label is stored before the server says that it took it.
"""

from __future__ import annotations

import gc
import importlib
import logging
import threading
import time
import uuid
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client import Counter

from mlops_assets.ml.errors import ArtifactError
from mlops_assets.serving.log_files import Answered, Label, answered_rows, labels_file, packed, parquet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mlops_assets.serving.lake_files import LakeFiles
    from mlops_assets.serving.log_policy import InferenceLogPolicy
    from mlops_assets.serving.predictor import Predictor

DROPPED = Counter("model_inference_log_dropped_total", "Requests that were answered and are not in the log", ["model"])
STORED = Counter("model_inference_log_stored_total", "Requests whose log is stored", ["model"])
REQUEST_BYTES = 2_000  # what a request takes in the queue beside the bytes of its body
log = logging.getLogger("mlops_assets.serving")


class File(NamedTuple):
    """A file that is to be stored, and how many requests are in it."""

    key: str
    content: bytes
    model: str
    requests: int


class InferenceLog:
    """The log of a server. `salt` is for the columns of which a digest is kept."""

    def __init__(
        self,
        store: LakeFiles,
        salt: bytes,
        *,
        age_s: float = 30,
        batch_bytes: int = 4 << 20,
        queue_bytes: int = 32 << 20,
        waiting_bytes: int = 16 << 20,
    ) -> None:
        self._store, self._salt, self._age_s, self._batch_bytes = store, salt, age_s, batch_bytes
        self._queue_bytes, self._waiting_bytes = queue_bytes, waiting_bytes
        self._server = uuid.uuid4().hex[:16]
        self._files = 0
        self._queue, self._queued = deque[Answered](), 0
        self._waiting = deque[File]()
        self._lock, self._wake, self._stopping = threading.Lock(), threading.Event(), False
        self._said_dropped = 0.0
        self._thread = threading.Thread(target=self._run, name="inference-log", daemon=True)
        self._thread.start()

    def check(self, policy: InferenceLogPolicy) -> None:
        """Refuse what this log cannot do.

        Raises:
            ArtifactError: columns are to be hashed, and there is no salt.
        """
        if policy.hash and not self._salt:
            what = f"a digest of {', '.join(policy.hash)} is to be kept, and there is no salt for it"
            raise ArtifactError(what, remedy="give the server MLOPS_LOG_SALT, or leave the columns out")

    def record(
        self,
        model: Predictor,
        request_id: str,
        role: str,
        latency_s: float,
        inputs: dict[str, NDArray[Any]],
        outputs: dict[str, NDArray[Any]],
        size: int,
    ) -> None:
        """Keep an answered request, whose body had `size` bytes, if its model's policy says so; never waits."""
        policy = model.served.log
        if policy is None or not policy.keeps(request_id):
            return
        columns = [packed(inputs[column.name]) for column in model.logged_columns]
        answers = [packed(outputs[name]) for name in model.onnx.output_names]
        rows, size = len(outputs[model.onnx.output_names[0]]), size + REQUEST_BYTES
        entry = Answered(model, request_id, role, time.time(), latency_s, rows, columns, answers, size)
        with self._lock:
            fits = self._queued + size <= self._queue_bytes and not self._stopping
            if fits:
                self._queue.append(entry)
                self._queued += size
            batch = self._queued // self._batch_bytes > (self._queued - size) // self._batch_bytes
        if not fits:
            self._drop(model.name, 1)
        elif batch:
            self._wake.set()

    def store_labels(self, labels: Sequence[Label]) -> None:
        """Store labels of one model, all received at one moment.

        Raises:
            Exception: they are not known to be stored.
        """
        first = labels[0]
        with self._lock:
            key = self._key("labels", first.model, hour_of(first.received))
        self._store.put(key, labels_file(labels))

    def close(self, timeout_s: float = 15) -> None:
        """Store what is there. What cannot be stored in time is counted as dropped."""
        with self._lock:
            self._stopping = True
        self._deadline = time.monotonic() + timeout_s
        self._wake.set()
        self._thread.join(timeout_s + 30)
        lost = [(file.model, file.requests) for file in self._waiting]
        lost += [(entry.model.name, 1) for entry in self._queue]
        for model, requests in lost:
            self._drop(model, requests)
        if lost:
            log.error("the inference log loses %d requests: the lake is away", sum(count for _, count in lost))

    def _run(self) -> None:
        for module in ("pyarrow.parquet", "pandas"):  # which pyarrow loads for its first array, while requests wait
            importlib.import_module(module)
        gc.freeze()  # as the server does
        due, again, pause = time.monotonic() + self._age_s, 0.0, 1.0
        while True:
            self._wake.wait(max(0.0, (min(due, again) if self._waiting else due) - time.monotonic()))
            self._wake.clear()
            stopping, now = self._stopping, time.monotonic()
            self._make_files(self._batch_bytes)
            if now >= due or stopping:
                self._make_files(1)
                due = now + self._age_s
            if self._waiting and (now >= again or stopping):
                if self._store_waiting():
                    again, pause = 0.0, 1.0
                else:
                    again, pause = time.monotonic() + pause, min(2 * pause, 30)
            if stopping and (not (self._waiting or self._queue) or now > self._deadline):
                return
            if stopping:
                time.sleep(0.2)
                self._wake.set()

    def _make_files(self, least: int) -> None:
        """Make files of what was in the queue while that has `least` bytes, a batch at a time."""
        queued = self._queued
        while queued >= least and sum(len(file.content) for file in self._waiting) < self._waiting_bytes:
            entries = self._taken()
            queued -= sum(entry.size for entry in entries)
            by_file = dict[tuple[int, int], list[Answered]]()
            for entry in entries:
                by_file.setdefault((id(entry.model), int(entry.time) // 3600), []).append(entry)
            for (_, hour), found in by_file.items():
                self._make_file(hour, found)

    def _taken(self) -> list[Answered]:
        """What is in the queue, a batch of it at most."""
        entries, size = list[Answered](), 0
        with self._lock:
            while self._queue and size < self._batch_bytes:
                entries.append(self._queue.popleft())
                size += entries[-1].size
            self._queued -= size
        return entries

    def _make_file(self, hour: int, entries: Sequence[Answered]) -> None:
        model = entries[0].model.name
        with self._lock:
            key = self._key("inference", model, hour_of(datetime.fromtimestamp(3600 * hour, UTC)))
        try:
            content = parquet(answered_rows(entries, self._salt))
        except Exception:  # other models' and hours' are kept, and so are those that come later
            log.exception("%d requests of %s cannot be written to the inference log", len(entries), model)
            self._drop(model, len(entries))
        else:
            self._waiting.append(File(key, content, model, len(entries)))

    def _key(self, kind: str, model: str, hour: str) -> str:
        self._files += 1
        return f"{kind}/{model}/{hour}/{self._server}-{self._files:08d}.parquet"

    def _store_waiting(self) -> bool:
        while self._waiting:
            file = self._waiting[0]
            try:
                self._store.put(file.key, file.content)
            except Exception as error:
                log.warning("the inference log cannot be stored now, %d files wait: %s", len(self._waiting), error)
                return False
            self._waiting.popleft()
            if file.requests:
                STORED.labels(file.model).inc(file.requests)
        return True

    def _drop(self, model: str, requests: int) -> None:
        DROPPED.labels(model).inc(requests)
        if time.monotonic() > self._said_dropped + 60:
            self._said_dropped = time.monotonic()
            log.error("requests of %s are not in the inference log; how many is counted at /metrics", model)


def hour_of(moment: datetime) -> str:
    """The folder of an hour.

    >>> hour_of(datetime(2026, 11, 17, 9, 59, tzinfo=UTC))
    '2026/11/17/09'
    """
    return f"{moment:%Y/%m/%d/%H}"
