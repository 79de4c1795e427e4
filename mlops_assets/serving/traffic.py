"""Which share of a model's requests its candidate sees: a small document in the lake, `traffic/<model>/traffic.json`.

The roll-out alone writes it. Each server of the champion reads it every few seconds, does as it says, and writes what
it saw to `observed/<model>/<id>/<server>.json`, which the roll-out reads. So the split is the same on every target,
with or without a gateway.
"""

from __future__ import annotations

import bisect
import hashlib
import math
import random
from itertools import zip_longest
from typing import TYPE_CHECKING, Self

from pydantic import ConfigDict, Field

from mlops_assets.ml.values import Document, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BEAT_S = 5.0  # how often whoever watches over a roll-out says so
LEASE_S = 30.0  # for which a split goes on when nothing is heard of whoever watches over it
# Upper bounds in ms, each 12 % above the one before, up to a minute
BOUNDS_MS = tuple(0.05 * 1.12**step for step in range(125))
SAMPLED = 500  # rows of which both scores are kept
KEYS = 256  # counts of the requests by their keys

Sampled = tuple[int, float, float]
"""A row's place in the order of chance, the champion's score and the candidate's."""


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
    the `mirrored` all but `mirrored_failed`. `dropped` copies found no room in the queue. `rows` were answered by both,
    `changed` of them with another label, and of SAMPLED of those with scores, any of them as likely as the others,
    `sample` has these. `keys` counts the requests by a digest of what they are dealt out by, so that it can be told how
    many of these are the same. Times are the seconds of the graph's server by BOUNDS_MS.

    `asked_before` is how often the server had been asked since it has this version, until the split began, and `idle_s`
    for how many seconds it had not been then; of several servers, the least.

    Servers of several releases may follow one split: what another one says beside this is passed over, and what it
    does not say is not known.
    """

    model_config = ConfigDict(extra="ignore")

    asked: int = 0
    failed: int = 0
    handed: int = 0
    handed_failed: int = 0
    mirrored: int = 0
    mirrored_failed: int = 0
    dropped: int = 0
    rows: int = 0
    changed: int = 0
    asked_before: int = 0
    idle_s: float | None = None
    keys: tuple[int, ...] = ()
    champion_ms: tuple[int, ...] = ()
    candidate_ms: tuple[int, ...] = ()
    reasons: dict[str, int] = Field(default_factory=dict)
    sample: tuple[Sampled, ...] = ()

    @property
    def pairs(self) -> tuple[tuple[float, float], ...]:
        """Scores of both for the same rows."""
        return tuple((mine, its) for _, mine, its in self.sample)

    def __add__(self, other: Self) -> Self:
        """What two servers have seen."""
        names = [name for name, field in type(self).model_fields.items() if field.annotation is int]
        return type(self)(
            **{name: getattr(self, name) + getattr(other, name) for name in names},
            idle_s=min((idle for idle in (self.idle_s, other.idle_s) if idle is not None), default=None),
            keys=_summed(self.keys, other.keys),
            champion_ms=_summed(self.champion_ms, other.champion_ms),
            candidate_ms=_summed(self.candidate_ms, other.candidate_ms),
            reasons={
                name: self.reasons.get(name, 0) + other.reasons.get(name, 0)
                for name in self.reasons.keys() | other.reasons.keys()
            },
            sample=sampled((*self.sample, *other.sample)),
        )


NOTHING_SEEN = Observed()


def _summed(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip_longest(one, other, fillvalue=0))


def drawn(scores: Iterable[tuple[float, float]]) -> tuple[Sampled, ...]:
    """SAMPLED rows of these, or all of them where there are fewer."""
    return sampled((random.getrandbits(48), mine, its) for mine, its in scores)


def sampled(rows: Iterable[Sampled]) -> tuple[Sampled, ...]:
    """The first SAMPLED rows in the order of chance: of the samples of several servers this is the one of all rows.

    >>> sampled([(7, 1.0, 2.0), (3, 5.0, 6.0)])
    ((3, 5.0, 6.0), (7, 1.0, 2.0))
    """
    return tuple(sorted(rows)[:SAMPLED])


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


def bucket_of(key: str) -> int:
    """By which of KEYS counts a key is counted; the same on every server.

    >>> 0 <= bucket_of("a") < KEYS
    True
    """
    return hashlib.blake2b(key.encode(), digest_size=1, person=b"bucket").digest()[0]


def different_keys(counts: Sequence[int]) -> float:
    """How many different keys requests have that were counted so, each as often as the others; infinity for none.

    Of N requests whose keys have n(k) of them each it is N² / Σ n(k)². That sum is estimated from the counts' squares:
    two requests of different keys meet in a count by chance, once in KEYS times.

    >>> different_keys([0, 900, 0, *[0] * 253])
    1.0
    """
    asked = sum(counts)
    together = (len(counts) * sum(count * count for count in counts) - asked**2) / (len(counts) - 1) if asked else 0
    return asked**2 / max(together, asked) if asked else math.inf


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
