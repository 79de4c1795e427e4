"""`make test-gpu`: the tests of this folder on a GPU, with any Python that has what they need."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

NEEDED = ("torch", "numpy", "safetensors", "pydantic", "pytest")


def main(arguments: list[str]) -> int:
    """Run them; the exit code, 2 where libraries are missing."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(f"{sys.executable} lacks {', '.join(missing)}: install them, or name another Python with PYTHON=")
        return 2
    import pytest

    # The tests beside this folder have fixtures that need the whole platform
    folder = str(Path(__file__).parent)
    return int(pytest.main(["--noconftest", "-m", "gpu", "-rs", "-p", "no:cacheprovider", folder, *arguments]))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
