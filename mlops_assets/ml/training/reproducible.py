"""Random numbers that depend on the seed alone, in torch, numpy and Python; and after it, the process as it was."""

from __future__ import annotations

import os
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def reproducible(seed: int) -> Generator[None]:
    """Seed all generators, and ask torch for deterministic algorithms (on a GPU it only warns where there is none).

    Afterwards the generators, the algorithms, the number of threads and the default type are what they were before.
    """
    state, threads, dtype = random_state(), torch.get_num_threads(), torch.get_default_dtype()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    seed_generators(seed)
    # cuBLAS is deterministic with it alone, and reads it when it is first used
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        restore_random_state(*state)


def seed_generators(seed: int) -> None:
    """Begin the global generators of torch (also those of a GPU), numpy and Python anew."""
    torch.manual_seed(seed % 2**63)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def random_state() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Where the global generators are: torch's as tensors, numpy's and Python's as JSON."""
    tensors = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    kind, key, position, has_gauss, gauss = np.random.get_state()
    version, internal, next_gauss = random.getstate()
    numpy = [str(kind), np.asarray(key).tolist(), int(position), int(has_gauss), float(gauss)]
    return tensors, {"numpy": numpy, "python": [version, list(internal), next_gauss]}


def restore_random_state(tensors: dict[str, torch.Tensor], others: dict[str, Any]) -> None:
    """Put the generators where `random_state` found them; that of a GPU where there is one now."""
    torch.set_rng_state(tensors["cpu"])
    if torch.cuda.is_available() and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"])
    kind, key, *rest = others["numpy"]
    np.random.set_state((kind, np.array(key, dtype=np.uint32), *rest))
    version, internal, next_gauss = others["python"]
    random.setstate((version, tuple(internal), next_gauss))
