"""Checkpoints of a training in the lake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_assets.ml.training import checkpoint
from resources.lake.lake_checkpoints import LakeCheckpoints

if TYPE_CHECKING:
    from resources.lake.lake import Lake


def test_checkpoints_in_the_lake(lake: Lake) -> None:
    import torch

    store = LakeCheckpoints.of(lake.store, "m/stage", "v1")
    assert checkpoint.latest_checkpoint(store) is None
    for number in (1, 2, 3):
        checkpoint.save_checkpoint(store, number, {"w": torch.full((3,), float(number))}, {"epoch": number})
    assert len(store.names()) == checkpoint.KEPT
    found = checkpoint.latest_checkpoint(store)
    assert found is not None
    assert {item.key.rpartition("/")[0] for item in lake.store.stored()} == {"checkpoints/m/stage/v1"}
    assert (found[0], found[1]["w"].tolist(), found[2]) == (3, [3.0, 3.0, 3.0], {"epoch": 3})
