"""What a server wants of whoever loads models: a token in a file that its user alone can read."""

from __future__ import annotations

import os
import secrets
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def load_token(path: Path) -> str:
    """The token in a file, which is made where there is none; of two servers that make it at once, the first one's."""
    if not path.exists():
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
        with suppress(FileExistsError):
            path.hardlink_to(draft)
        draft.unlink()
    return path.read_text()
