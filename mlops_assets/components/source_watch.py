"""Notices new source data by listing, a bounded part at a time: a source of any length delays nobody."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mlops_assets.ml.values import Value
from resources.lake.object_store import digest_of

if TYPE_CHECKING:
    from resources.lake.lake import Lake

PAGES, SECONDS = 40, 4.0


class SourceState(Value):
    """What is known of a source: the version that two listings in a row have found, the last one found, and how far the
    listing is that goes on. Objects that are being written, and a listing that met a change, give no version so.
    """

    uri: str
    version: str | None = None
    found: str | None = None
    after: str = ""
    digest: str = ""


class Allowance:
    """What one tick may list, of all sources together: it bounds the tick's time, and what the requests cost."""

    def __init__(self, pages: int = PAGES, seconds: float = SECONDS) -> None:
        self._pages, self._until = pages, time.monotonic() + seconds

    @property
    def is_spent(self) -> bool:
        """Whether nothing more may be listed."""
        return self._pages <= 0 or time.monotonic() >= self._until

    def take(self) -> bool:
        """Whether a page may be listed; it is then taken."""
        if self.is_spent:
            return False
        self._pages -= 1
        return True


def look(lake: Lake, uri: str, before: SourceState | None, allowance: Allowance) -> SourceState:
    """The state of a source after as much of a listing as is allowed; what comes after the last page is a new one."""
    state = before if before is not None and before.uri == uri else SourceState(uri=uri)
    pages = iter(lake.source_pages(uri, state.after))
    while True:
        if not allowance.take():
            return state
        page = next(pages, None)
        if page is None:
            break
        digest = digest_of(page.objects, state.digest)
        state = state.model_copy(update={"after": page.last, "digest": digest})
    found = state.digest or None
    is_settled = found is not None and found == state.found
    return SourceState(uri=uri, version=found if is_settled else state.version, found=found)
