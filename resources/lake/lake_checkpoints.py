"""Checkpoints of a training, kept in the lake, so that another machine can go on from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_assets.ml.errors import DataError

if TYPE_CHECKING:
    from resources.lake.object_store import ObjectStore


# Apart from what lasts, so that the life cycle of a bucket with versions can forget deleted ones within a day: by the
# minute, and with gigabytes each, they would be most of its bill
CHECKPOINTS = "checkpoints"


class LakeCheckpoints:
    """The `CheckpointStore` below one prefix of the lake; `of` says which prefix is that of a version."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self.store, self.prefix = store, prefix

    @classmethod
    def of(cls, store: ObjectStore, prefix: str, version: str) -> LakeCheckpoints:
        """The checkpoints of the training of a version, whose snapshot will be `<prefix>/<version>`."""
        return cls(store, f"{CHECKPOINTS}/{prefix}/{version}")

    def names(self) -> list[str]:
        return [key.rpartition("/")[2] for key in self.store.sizes(f"{self.prefix}/checkpoint-*")]

    def read(self, name: str) -> bytes:
        content = self.store.read(f"{self.prefix}/{name}")
        if content is None:
            raise DataError(f"The checkpoint {self.prefix}/{name} has gone", remedy="materialize again")
        return content

    def write(self, name: str, content: bytes) -> None:
        self.store.replace(f"{self.prefix}/{name}", content)

    def delete(self, name: str) -> None:
        self.store.delete(f"{self.prefix}/{name}")

    def clear(self) -> None:
        """Remove all checkpoints, when their training has been published."""
        for name in self.names():
            self.delete(name)
