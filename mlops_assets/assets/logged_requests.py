"""Where in the lake's inference log a request lies, which may be in any of its days."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from mlops_assets.assets.inference_log import STAGE, log_objects
from mlops_assets.ml.errors import SpecError
from mlops_assets.ml.monitoring.compact_log import TABLE
from mlops_assets.ml.monitoring.find_request import LoggedAnswer, find_request, rows_of_request
from mlops_assets.ml.values import Value
from resources.serving.golden_rows import PROOF_ID

if TYPE_CHECKING:
    from pathlib import Path

    from resources.lake.lake import Lake

Found = TypeVar("Found")
Read = Callable[[Sequence["Path"], str], list[Found]]


class LoggedRequest(Value):
    """A request that was found: whose it was, on which day, and what was answered."""

    request_id: str
    model: str
    day: date
    answers: tuple[LoggedAnswer, ...]


def days_back(last: date, count: int) -> list[date]:
    """The last day and those before it.

    >>> days_back(date(2026, 3, 1), 2)
    [datetime.date(2026, 3, 1), datetime.date(2026, 2, 28)]
    """
    return [last - timedelta(days=number) for number in range(count)]


def find(lake: Lake, request_id: str, models: Sequence[str], days: Sequence[date]) -> LoggedRequest | None:
    """The request in the logs of these models on these days, or None.

    Days are looked at in their order until it is found, each by its own prefix. Of a day that has a table, that is read
    first, which is one file; the servers' own files of it are, when nothing was found elsewhere: some may have come
    later than the table.

    Raises:
        SpecError: it is not the id of a request that somebody has asked.
        DataError: a file cannot be read.
    """
    if request_id == PROOF_ID:
        what = f"{PROOF_ID} is the id of the requests by which roll-outs prove versions"
        raise SpecError(what, remedy="give the id that the answer to a request has")
    with_tables = list[tuple[str, date]]()
    for day in days:
        for model in models:
            tables = list(_tables(lake, model, day))
            if tables:
                with_tables.append((model, day))
            found = (
                _in_tables(lake, tables, request_id, find_request)
                if tables
                else _in_files(lake, model, day, request_id, find_request)
            )
            if found:
                return LoggedRequest(request_id=request_id, model=model, day=day, answers=tuple(found))
    for model, day in with_tables:
        found = _in_files(lake, model, day, request_id, find_request)
        if found:
            return LoggedRequest(request_id=request_id, model=model, day=day, answers=tuple(found))
    return None


def logged_rows(lake: Lake, request: LoggedRequest) -> list[dict[str, Any]]:
    """The rows of a request that was found, as the log has them.

    Raises:
        DataError: a file cannot be read.
    """
    tables = _tables(lake, request.model, request.day)
    rows = _in_tables(lake, list(tables), request.request_id, rows_of_request)
    return rows or _in_files(lake, request.model, request.day, request.request_id, rows_of_request)


def _tables(lake: Lake, model: str, day: date) -> Iterable[str]:
    """The versions of a day's table, the newest first."""
    folder = f"{lake.name_of(model)}/{STAGE}/{day}"
    found = [item for item in lake.store.stored(folder) if item.key.endswith("/manifest.json")]
    for item in sorted(found, key=lambda item: item.modified, reverse=True):
        yield item.key.removesuffix("/manifest.json")


def _in_tables(lake: Lake, tables: Sequence[str], request_id: str, read: Read[Found]) -> list[Found]:
    """What the newest table that is whole has of it."""
    for table in tables:
        manifest = lake.find(*table.rsplit("/", 1))
        if manifest is not None:
            return read([lake.local_folder(manifest) / TABLE], request_id)
    return []


def _in_files(lake: Lake, model: str, day: date, request_id: str, read: Read[Found]) -> list[Found]:
    objects = log_objects(lake, lake.name_of(model), day)
    if not objects:
        return []
    with lake.sources("inference", objects) as files:
        return read(files, request_id)
