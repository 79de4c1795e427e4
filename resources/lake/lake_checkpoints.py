"""Checkpoints of a training, kept in the lake, so that another machine can go on from them."""

from __future__ import annotations

from mlops_assets.ml.errors import DataError
from resources.lake.lake import Lake


class LakeCheckpoints:
    """The `CheckpointStore` below one place of the lake."""

    def __init__(self, lake: Lake, place: str) -> None:
        self.store, self.place = lake.store, place

    def names(self) -> list[str]:
        return [item.key.rpartition("/")[2] for item in self.store.list(f"{self.place}/checkpoint-*")]

    def read(self, name: str) -> bytes:
        content = self.store.read(f"{self.place}/{name}")
        if content is None:
            raise DataError(f"The checkpoint {self.place}/{name} has gone; materialize again.")
        return content

    def write(self, name: str, content: bytes) -> None:
        self.store.replace(f"{self.place}/{name}", content)

    def delete(self, name: str) -> None:
        self.store.delete(f"{self.place}/{name}")
