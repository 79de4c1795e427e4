"""Checkpoints of a training: everything that decides what comes next, as safetensors and JSON, written atomically."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Protocol

from safetensors.torch import load, save

if TYPE_CHECKING:
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


def save_checkpoint(
    store: CheckpointStore, number: int, tensors: dict[str, torch.Tensor], state: dict[str, Any]
) -> None:
    """Write checkpoint `number` under a name that holds its digest, and drop all but the last two."""
    content = tensors_to_bytes(tensors, {"state": json.dumps(state)})
    store.write(f"checkpoint-{number:08d}-{hashlib.sha256(content).hexdigest()}", content)
    for name in sorted(store.names())[:-KEPT]:
        store.delete(name)


def tensors_to_bytes(tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Named tensors in the format of safetensors; what shares memory (tied weights, views) is written for each name."""
    seen: set[int] = set()
    apart: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        held = tensor.detach().cpu().contiguous()
        memory = held.untyped_storage().data_ptr()
        apart[name] = held.clone() if memory in seen else held
        seen.add(memory)
    return save(apart, metadata)


def latest_checkpoint(store: CheckpointStore) -> tuple[int, dict[str, torch.Tensor], dict[str, Any]] | None:
    """Number, tensors and state of the newest checkpoint that is undamaged, or None."""
    for name in sorted(store.names(), reverse=True):
        content = store.read(name)
        _, number, digest = name.split("-")
        if hashlib.sha256(content).hexdigest() == digest:
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            return int(number), load(content), json.loads(header["__metadata__"]["state"])
    return None
