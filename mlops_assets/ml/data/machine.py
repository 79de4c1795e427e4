"""What this process may use of the machine: the memory and cores of its container, or of the whole machine."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
WIDE = 100
SMALLEST_MIB, LARGEST_MIB = 384, 1024


def memory_limit_mib(available: int | None = None) -> int:
    """How much memory DuckDB may use, in MiB: a quarter of what there is (`available` bytes), from 384 to 1024.

    The rest is for the libraries and for what is not bounded by DuckDB; what needs more spills to the disk.
    """
    of_all = available_memory() if available is None else available
    return min(max(of_all // 4 >> 20, SMALLEST_MIB), LARGEST_MIB)


def threads_for(columns: int) -> int:
    """The threads for rows of this many columns: each of them holds wide rows of its own."""
    return cores() if columns <= WIDE else 1


def available_memory() -> int:
    """The memory limit of this process's container in bytes, or the memory of the machine."""
    import psutil

    machine = psutil.virtual_memory().total
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(CGROUP / name)
        if text.isdigit():
            return min(int(text), machine)
    return machine


def cores() -> int:
    """The cores that this process may use, at least 1."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(CGROUP / "cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        usable = min(usable, -(-int(quota) // int(period)))
    return max(usable, 1)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
