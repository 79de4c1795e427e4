"""Downloaded source objects, so that each is fetched once for all stages and runs of a machine."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from resources.lake.digests import file_digest, moved

if TYPE_CHECKING:
    from resources.lake.object_store import ObjectStore, SourceObject

LIMIT_BYTES = 20 << 30


class SourceCache:
    """Files in `<folder>/<what they were>/<their digest>`, which several processes may use at once.

    They take 20 GiB at most, and no more than half of what the disk has for them; those that were not used for longest
    go first. Whoever uses a file has a link of its own, so it may go at any time.
    """

    def __init__(self, folder: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes

    def link(self, store: ObjectStore, root: str, item: SourceObject, target: Path) -> None:
        """Make `target` the listed state of an object below `root`, the address of the store.

        Raises:
            DataError: it is not kept here, and has changed or gone since.
        """
        identity = hashlib.sha256("\0".join((root, item.key, item.etag, str(item.size))).encode()).hexdigest()[:40]
        place = self.folder / identity
        if self._link_known(place, item, target):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".") as draft:
            file = Path(draft, "content")
            store.download(item, file)
            kept = place / file_digest(file)
            _link(file, target)
            with suppress(FileNotFoundError, FileExistsError):  # another process removes the place at this moment
                place.mkdir(exist_ok=True)
                file.replace(kept)
                moved(file, kept)

    def _link_known(self, place: Path, item: SourceObject, target: Path) -> bool:
        with suppress(FileNotFoundError, NotADirectoryError):
            for kept in place.iterdir():
                if kept.stat().st_size == item.size and file_digest(kept) == kept.name:
                    _link(kept, target)
                    os.utime(place)
                    return True
                kept.unlink()
        return False

    def trim(self) -> None:
        """Remove what was not used for longest, until the rest is within the limits."""
        sizes, used = self._places()
        if not sizes:
            return
        total = sum(sizes.values())
        limit = min(self.limit_bytes, (total + shutil.disk_usage(self.folder).free) // 2)
        for place in sorted(sizes, key=lambda place: used[place]):
            if total <= limit:
                return
            total -= sizes[place]
            shutil.rmtree(place, ignore_errors=True)

    def unused(self, since: float) -> dict[Path, int]:
        """What was not used since a time (of the epoch), with its bytes."""
        sizes, used = self._places()
        return {place: size for place, size in sizes.items() if used[place] < since}

    def remove_unused(self, since: float) -> None:
        """Remove what was not used since a time (of the epoch)."""
        for place in self.unused(since):
            shutil.rmtree(place, ignore_errors=True)

    def _places(self) -> tuple[dict[Path, int], dict[Path, float]]:
        """Bytes of each object that is kept, and when it was last used."""
        sizes: dict[Path, int] = {}
        used: dict[Path, float] = {}
        for place in self.folder.iterdir() if self.folder.is_dir() else ():
            with suppress(FileNotFoundError, NotADirectoryError):
                if not place.name.startswith("."):
                    used[place] = place.stat().st_mtime
                    sizes[place] = sum(file.stat().st_size for file in place.iterdir())
        return sizes, used


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # the file system has no hard links
        shutil.copyfile(source, target)
