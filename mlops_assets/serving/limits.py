"""What one caller may cost, so that none takes the server from the others."""

from __future__ import annotations

from mlops_assets.ml.values import Value

LARGE_BODY = 64 << 10  # bytes; one is answered in a thread, so that small ones do not wait for it


class Limits(Value):
    """The largest body and the most rows of a request; of large bodies, how many are held and how many are answered at
    a time; and for how long a caller may take to send its headers and its body, and to read an answer.
    """

    body_bytes: int = 8 << 20
    rows: int = 100_000
    held_bodies: int = 8
    large_bodies: int = 2
    large_body_wait_s: float = 10
    header_s: float = 10
    body_s: float = 30
    answer_s: float = 60
