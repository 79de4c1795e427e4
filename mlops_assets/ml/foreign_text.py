"""Texts of callers and of data as people are shown them: whatever they hold, they do nothing where they are shown."""

from __future__ import annotations

import re

MOST_LETTERS = 100
MOST_LINES, LONGEST_LINE = 20, 500
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?")
_LOOK_ALIKES = str.maketrans("<>&", "()+")


def printable(text: object) -> str:
    r"""A line of at most 100 letters, for a terminal: what moves its cursor or turns its direction is escaped.

    >>> printable("a\nb\x1b[31m\u202e"), printable(12.5)
    ('a\\nb\\x1b[31m\\u202e', '12.5')
    """
    given = str(text)
    cut = given if len(given) <= MOST_LETTERS else f"{given[: MOST_LETTERS - 3]}..."
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in cut)


def last_lines(text: str, most: int = MOST_LINES) -> list[str]:
    r"""The last lines of a program's output that say something, as text alone: colours and what else a terminal would
    obey are taken out, and of a long line the middle.

    >>> last_lines("\x1b[31mone\x1b[0m\n\n two\tthree\x00\r\n", most=2)
    ['one', ' two three']
    """
    plain = (_ESCAPES.sub("", line).replace("\t", " ") for line in re.split(r"[\r\n]+", text))
    lines = ["".join(filter(str.isprintable, line)).rstrip() for line in plain]
    return [_without_middle(line) for line in [line for line in lines if line][-most:]]


def _without_middle(line: str) -> str:
    if len(line) <= LONGEST_LINE:
        return line
    return f"{line[: LONGEST_LINE // 4]} ... {line[5 - 3 * LONGEST_LINE // 4 :]}"


def as_markdown(text: object) -> str:
    """A code span, which may stand in a table: no picture is fetched, no link is there to follow.

    >>> as_markdown("![x](http://a/b.png) | `c`")
    "`![x](http://a/b.png) / 'c'`"
    """
    return f"`{printable(text).replace('`', chr(39)).replace('|', '/') or ' '}`"


def without_markup(text: object) -> str:
    """What stays a text in a page of HTML that does not escape what it is given.

    >>> without_markup("</script><script>alert(1)</script>")
    '(/script)(script)alert(1)(/script)'
    """
    return printable(text).translate(_LOOK_ALIKES)
