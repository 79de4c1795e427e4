"""Labels from a table, put beside those that model servers are told."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.assets.champion import CHAMPION
from mlops_assets.cli.upkeep import outside_world
from mlops_assets.ml.errors import SpecError
from mlops_assets.ml.inference.artifact import ModelSignature
from mlops_assets.ml.monitoring.label_table import write_labels
from resources.lake.digests import sha256

if TYPE_CHECKING:
    from collections.abc import Iterator


def feedback(model: str, file: Path) -> Iterator[str]:
    """Store the labels of a file; what was done, a line.

    Raises:
        SpecError: the model has no champion, by which labels could be checked; or the space is not one's own.
        DataError: a row does not fit; nothing was stored.
    """
    _, tracking, lake = outside_world()
    lake.check_space()
    champion = tracking.by_alias(model, CHAMPION)
    if champion is None:
        what = f"{model} has no champion, so nobody knows which labels fit it"
        raise SpecError(what, remedy="mlops-assets models lists models and their aliases")
    received = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as draft:
        folder = Path(draft)
        classes = ModelSignature.read(tracking.download(champion, folder)).classes
        table = folder / "labels.parquet"
        count = write_labels(file, table, classes, received)
        # As servers name theirs; the same labels within an hour are there once
        key = f"labels/{lake.name_of(model)}/{received:%Y/%m/%d/%H}/import-{sha256(file)[:16]}-00000001.parquet"
        lake.store.upload(table, key)
    yield f"{model}: {count} labels are stored in {key}"
