"""Keeps a server's log bounded while it runs, whatever it writes: `python log_writer.py FILE` writes its input there.

A process of its own, between the server and the file, because no server rotates what its libraries and the interpreter
write. It imports little, so that it starts in no time; it ends when nobody can write to it any more.
"""

from __future__ import annotations

import logging
import logging.handlers
import signal
import sys

LARGEST = 4 << 20
OLD_FILES = 1
LONGEST_LINE = 64 << 10


def main(path: str, largest: int = LARGEST) -> None:
    """Append the lines of the standard input to a file, and begin a new one when it holds `largest` bytes."""
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    logging.raiseExceptions = False  # a full disk costs lines, and not the server that writes them
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=largest, backupCount=OLD_FILES, encoding="utf-8")
    while line := sys.stdin.buffer.readline(LONGEST_LINE):
        text = line.decode(errors="backslashreplace").rstrip("\n")
        handler.handle(logging.LogRecord("server", logging.INFO, "", 0, text, None, None))


if __name__ == "__main__":
    main(sys.argv[1])
