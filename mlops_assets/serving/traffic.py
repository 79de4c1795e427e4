"""Which share of a model's requests its candidate sees: a small document in the lake, `traffic/<model>/traffic.json`.

The roll-out alone writes it. Each server of the champion reads it every few seconds, does as it says, and writes what
it saw to `observed/<model>/<id>/<server>.json`, which the roll-out reads. So the split is the same on every target,
with or without a gateway.
"""

from __future__ import annotations

import bisect
import hashlib
from typing import Self

from pydantic import Field

from mlops_assets.ml.values import Document, Value

BEAT_S = 5.0  # how often whoever watches over a roll-out says so
LEASE_S = 30.0  # for which a split goes on when nothing is heard of whoever watches over it
# Upper bounds in ms, each 12 % above the one before, up to a minute
BOUNDS_MS = tuple(0.05 * 1.12**step for step in range(125))
PAIRS = 300  # scores that are kept of a server, for the eyes


class Candidate(Value):
    """The version beside the champion: where it answers, the share of requests it gets a copy of, and the share that it
    answers.
    """

    version: str
    url: str
    mirrored: float = 0.0
    handed: float = 0.0


class Traffic(Document):
    """The split of a model's requests. What is counted belongs to its `id`; `beat` changes while it is watched over."""

    FILE = "traffic.json"

    id: str
    champion: str
    candidate: Candidate
    header: str | None = None
    deadline_s: float = 1.0
    beat: int = 0


class Observed(Value):
    """What one server has seen under a split, since that began.

    `asked` are the requests that the champion's own graph has answered, of which `failed` by a fault of the server;
    those that callers got wrong are in neither. Of the `handed` the candidate answered all but `handed_failed`, and of
    the `mirrored` all but `mirrored_failed`. `dropped` copies found no room in the queue. `rows` were answered by both:
    `changed` of them with another label, `distance` is the sum of their absolute differences, and `total` and `squares`
    the sums of the champion's numbers and their squares. Times are the seconds of the graph's server by BOUNDS_MS.
    """

    asked: int = 0
    failed: int = 0
    handed: int = 0
    handed_failed: int = 0
    mirrored: int = 0
    mirrored_failed: int = 0
    dropped: int = 0
    rows: int = 0
    changed: int = 0
    distance: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    champion_ms: tuple[int, ...] = ()
    candidate_ms: tuple[int, ...] = ()
    reasons: dict[str, int] = Field(default_factory=dict)
    pairs: tuple[tuple[float, float], ...] = ()

    def __add__(self, other: Self) -> Self:
        """What two servers have seen."""
        mine, its = self.model_dump(), other.model_dump()
        added = {name: value + its[name] for name, value in mine.items() if isinstance(value, int | float)}
        for name in ("champion_ms", "candidate_ms"):
            longer, shorter = sorted((mine[name], its[name]), key=len, reverse=True)
            added[name] = tuple(a + b for a, b in zip(longer, (*shorter, *[0] * len(longer)), strict=False))
        reasons = mine["reasons"].keys() | its["reasons"].keys()
        added["reasons"] = {name: mine["reasons"].get(name, 0) + its["reasons"].get(name, 0) for name in reasons}
        return type(self)(**added, pairs=(*self.pairs, *other.pairs)[: 2 * PAIRS])


def bound_of(seconds: float) -> int:
    """The index of a time in BOUNDS_MS; the last for all that is longer.

    >>> BOUNDS_MS[bound_of(0.002)] >= 2 > BOUNDS_MS[bound_of(0.002) - 1]
    True
    """
    return min(bisect.bisect_left(BOUNDS_MS, 1e3 * seconds), len(BOUNDS_MS) - 1)


def percentile_ms(counts: tuple[int, ...], share: float) -> float:
    """The time within which this share of requests was answered; 0 where there are none.

    >>> percentile_ms((0, 99, 1), 0.99) == BOUNDS_MS[1], percentile_ms((), 0.99)
    (True, 0.0)
    """
    left = share * sum(counts)
    for bound, count in zip(BOUNDS_MS, counts, strict=False):
        left -= count
        if count and left <= 1e-9:
            return bound
    return 0.0


def lies_within(share: float, key: str, purpose: str) -> bool:
    """Whether a key belongs to a share of all keys; the same on every server, and another share for another purpose.

    >>> lies_within(1.0, "a", "canary"), lies_within(0.0, "a", "canary")
    (True, False)
    """
    if share in (0, 1):
        return share == 1
    digest = hashlib.blake2b(key.encode(), digest_size=8, person=purpose.encode()).digest()
    return int.from_bytes(digest) < share * 2**64


def traffic_key(model: str) -> str:
    """Where the split of a model stands in the lake.

    >>> traffic_key("iris")
    'traffic/iris/traffic.json'
    """
    return f"traffic/{model}/{Traffic.FILE}"


def observed_folder(model: str, traffic_id: str) -> str:
    """Where the servers of a model write what they saw under a split.

    >>> observed_folder("iris", "a-1")
    'observed/iris/a-1'
    """
    return f"observed/{model}/{traffic_id}"
