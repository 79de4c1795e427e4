"""Checkpoints of a training: everything that decides what comes next, as safetensors and JSON, written atomically."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import torch

KEPT = 2


class CheckpointStore(Protocol):
    """Named byte strings. A name is written as a whole or not at all."""

    def names(self) -> list[str]:
        """All names, in no particular order."""
        ...

    def read(self, name: str) -> bytes: ...

    def write(self, name: str, content: bytes) -> None: ...

    def delete(self, name: str) -> None: ...


class FolderCheckpoints:
    """Checkpoints in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        return [path.name for path in self.folder.glob("checkpoint-*")] if self.folder.exists() else []

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f".{name}.{os.getpid()}"
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.folder / name)

    def delete(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)


def save(store: CheckpointStore, number: int, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    """Write checkpoint `number` under a name that holds its digest, and drop all but the last two."""
    from safetensors.torch import save as serialize

    content = serialize(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, {"state": json.dumps(state)}
    )
    store.write(f"checkpoint-{number:08d}-{hashlib.sha256(content).hexdigest()}", content)
    for name in sorted(store.names())[:-KEPT]:
        store.delete(name)


def latest(store: CheckpointStore) -> tuple[int, dict[str, torch.Tensor], dict[str, Any]] | None:
    """Number, tensors and state of the newest checkpoint that is undamaged, or None."""
    from safetensors.torch import load as deserialize

    for name in sorted(store.names(), reverse=True):
        content = store.read(name)
        _, number, digest = name.split("-")
        if hashlib.sha256(content).hexdigest() == digest:
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            return int(number), deserialize(content), json.loads(header["__metadata__"]["state"])
    return None
