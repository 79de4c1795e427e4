"""The model server's log: one line for each thing that went wrong, of bounded length, which no caller can forge."""

from __future__ import annotations

import logging

LONGEST_LINE = 2_000


class OneLine(logging.Formatter):
    """Makes one line of a record, its traceback included: what is not printable is escaped, and the middle cut out.

    >>> record = logging.LogRecord("m", logging.ERROR, "", 0, "no model %s", ("x\\nERROR: forged",), None)
    >>> OneLine("%(levelname)s %(message)s").format(record)
    'ERROR no model x\\\\nERROR: forged'
    """

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not text.isprintable():
            text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
        if len(text) > LONGEST_LINE:  # a traceback says at its end what happened
            text = f"{text[: LONGEST_LINE // 4]} ... {text[-3 * LONGEST_LINE // 4 + 5 :]}"
        return text


def configure_logging() -> None:
    """Write what our own loggers, uvicorn's and KServe's say to stderr, each as one line."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
