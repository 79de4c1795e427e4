"""Which rows are held out: decided by a row's content, so that it never depends on order, files or threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops_assets.ml.data.sources import identifier, quoted

if TYPE_CHECKING:
    from mlops_assets.ml.data.contract import Split


def test_condition(split: Split, event_time: str | None, connection: Any) -> str:
    """The train_test_split: the SQL condition of the test rows of `kept`; its column __key is the MD5 of seed and row.

    random: a row's digest decides, so equal rows are on the same side. group: the group's digest decides, so a group
    is on one side. time: the rows from the moment on that leaves the wanted share behind it.
    """
    if split.by == "time":
        assert event_time is not None
        column = identifier(event_time)
        share = 1 - split.test
        (cut,) = connection.execute(f"SELECT quantile_disc({column}, {share!r}) FROM kept").fetchone()
        return f"{column} > TIMESTAMP {quoted(f'{cut:%Y-%m-%d %H:%M:%S.%f}')}"
    below = f"< {int(split.test * 2**128)}::UHUGEINT"
    if split.by == "random":
        return f"__key {below}"
    group = identifier(split.column or "")
    return f"md5_number(concat('{split.seed}:', CAST({group} AS VARCHAR))) {below}"
