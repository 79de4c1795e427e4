"""Replays logged requests against a version that nobody asks yet, and compares its answers with those of then."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from mlops_assets.ml.errors import DeploymentError
from mlops_assets.ml.inference.log_columns import INPUT
from mlops_assets.serving.answers_compared import compared, score, scores
from mlops_assets.serving.inference_log import hour_of
from mlops_assets.serving.traffic import Observed
from resources.serving.golden_rows import PROOF_ID, UNRECORDED
from resources.serving.rollout_guards import BLIPS

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence

    from mlops_assets.ml.inference.artifact import InputColumn, ModelSignature
    from mlops_assets.serving.answers_compared import Score
    from resources.lake.object_store import ObjectStore
    from resources.serving.golden_rows import Endpoint

HOURS, FILES = 24, 50  # how far back is looked, and into how many files
AHEAD = 1  # hour by which the servers' clocks may be ahead of this machine's


class Logged(NamedTuple):
    """A request of the log: the rows it asked about, and the label and score of each that it was answered."""

    request_id: str
    rows: list[dict[str, Any]]
    answers: Sequence[tuple[str | None, float]]


class LoggedRequests(NamedTuple):
    """The newest requests that a version has answered, newest first; `last` is when the last request came."""

    requests: list[Logged]
    last: datetime | None


def logged_requests(
    store: ObjectStore,
    model: str,
    version: str,
    limit: int,
    *,
    only: Container[str] | None = None,
    hours: int = HOURS,
    files: int = FILES,
) -> LoggedRequests:
    """The newest requests to a version of a model in the inference log of the last hours, of these ids alone if given.

    No more than so many files are looked into.
    """
    import pyarrow.parquet as pq

    now, requests, last, read = datetime.now(UTC), list[Logged](), None, 0
    for ago in range(-AHEAD, hours):
        hour = hour_of(now - timedelta(hours=ago))
        stored = (item for item in store.stored(f"inference/{model}/{hour}") if item.key.endswith(".parquet"))
        for item in sorted(stored, key=lambda item: item.modified, reverse=True):
            if len(requests) >= limit or read >= files:
                return LoggedRequests(requests[:limit], last)
            read += 1
            content = store.read(item.key)
            table = pq.read_table(io.BytesIO(content)) if content else None
            if table is None:
                continue
            found, newest = _requests(table.to_pylist(), version)
            requests += [request for request in found if only is None or request.request_id in only]
            last = max(filter(None, (last, newest)), default=None)
    return LoggedRequests(requests[:limit], last)


def _requests(rows: Sequence[dict[str, Any]], version: str) -> tuple[list[Logged], datetime | None]:
    found, newest = list[list[dict[str, Any]]](), None
    for row in rows:
        if row["request_id"] != PROOF_ID and row["role"] != "mirror":
            newest = max(filter(None, (newest, row["time"])))
            if row["version"] == version:
                if row["row"] == 0:  # a request begins, whose id may be that of others, too
                    found.append([])
                found[-1].append(row)
    return [_logged(rows[0]["request_id"], rows) for rows in reversed(found)], newest


def _logged(request_id: str, rows: list[dict[str, Any]]) -> Logged:
    inputs = [
        {name.removeprefix(INPUT): value for name, value in row.items() if name.startswith(INPUT)} for row in rows
    ]
    answers = [
        (str(row["output:label"]), score(row["output:probabilities"]))
        if "output:label" in row
        else (None, float(row["output:prediction"]))
        for row in rows
    ]
    return Logged(request_id, inputs, answers)


def not_replayable(requests: Sequence[Logged], columns: Sequence[InputColumn], hidden: Sequence[str]) -> str | None:
    """Why the newest requests cannot be asked again, or None: the log does not have what the version needs."""
    known = requests[0].rows[0].keys() - set(hidden) if requests else {column.name for column in columns}
    missing = [column.name for column in columns if column.name not in known]
    return f"the inference log does not keep {', '.join(missing)}" if missing else None


def replayable(requests: Sequence[Logged], columns: Sequence[InputColumn]) -> list[Logged]:
    """Those that have all these columns: what is kept of a version's requests may have changed while it answered."""
    return [request for request in requests if all(column.name in request.rows[0] for column in columns)]


def replay(
    requests: Sequence[Logged],
    endpoint: Endpoint,
    signature: ModelSignature,
    post: Callable[[str, dict[str, Any], dict[str, str]], dict[str, Any]],
) -> Observed:
    """Ask a version what was asked before; it ends early where nearly all requests fail."""
    seen = Observed()
    for request, answers in asked_again(requests, endpoint, signature, post):
        seen += _compared(request, answers)
        if seen.mirrored_failed >= BLIPS and 2 * seen.mirrored_failed > seen.mirrored:
            return seen
    return seen


def _compared(request: Logged, answers: list[Score] | DeploymentError) -> Observed:
    reason = answers
    if not isinstance(answers, DeploymentError):
        try:
            return compared(request.answers, answers).model_copy(update={"mirrored": 1})
        except ValueError as error:  # as where a number is none
            reason = error
    return Observed(mirrored=1, mirrored_failed=1, reasons={str(reason)[:200]: 1})


def asked_again(
    requests: Sequence[Logged],
    endpoint: Endpoint,
    signature: ModelSignature,
    post: Callable[[str, dict[str, Any], dict[str, str]], dict[str, Any]],
) -> Iterator[tuple[Logged, list[Score] | DeploymentError]]:
    """Each request with what a version answers it now, or why it does not."""
    url = f"{endpoint.url}/v2/models/{endpoint.model}/infer"
    for request in requests:
        inputs = [
            {
                "name": column.name,
                "datatype": column.datatype,
                "shape": [len(request.rows), 1],
                "data": [row[column.name] for row in request.rows],
            }
            for column in signature.inputs
        ]
        try:
            answers = scores(post(url, {"id": request.request_id, "inputs": inputs}, UNRECORDED))
        except DeploymentError as error:
            yield request, error
        except ValueError as error:
            yield request, DeploymentError(str(error))
        else:
            many = f"{len(answers)} rows are answered, and {len(request.rows)} were asked"
            yield request, answers if len(answers) == len(request.rows) else DeploymentError(many)
