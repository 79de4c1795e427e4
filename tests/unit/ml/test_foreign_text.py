"""Texts of callers, shown to people."""

from __future__ import annotations

import pytest

from mlops_assets.ml.foreign_text import LONGEST_LINE, MOST_LETTERS, as_markdown, last_lines, printable, without_markup

HOSTILE = (
    "</script><script>alert(1)</script>",
    "![x](http://a/b.png)",
    "[click](javascript:alert(1))",
    "a`b|c",
    "two\nlines",
    "\x1b]0;title\x07",
    "\u202eevil",
    "x" * 10_000,
    "",
)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_shown_is_a_short_printable_line_that_does_nothing(text: str) -> None:
    assert printable(text).isprintable()
    assert len(printable(text)) <= MOST_LETTERS + len(text.encode("unicode_escape"))
    span = as_markdown(text)
    assert len(span) > 2
    assert (span[0], span[-1], span.count("`")) == ("`", "`", 2)
    assert "|" not in span
    assert not set("<>&") & set(without_markup(text))


def test_an_ordinary_text_stays_as_it_is() -> None:
    for shown in (printable, without_markup):
        assert shown("Genève, 北京 (HB)") == "Genève, 北京 (HB)"


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_lines_of_a_program_are_printable_and_short(text: str) -> None:
    lines = last_lines(f"first\n{text}\n", most=2)
    assert 1 <= len(lines) <= 2
    assert all(line.isprintable() and len(line) <= LONGEST_LINE for line in lines)


def test_of_a_long_line_both_ends_stay() -> None:
    [line] = last_lines("begin" + "x" * 10_000 + "end")
    assert (line[:5], line[-3:]) == ("begin", "end")
