"""A YAML's text: keys that are there twice, and what is filled in from the environment."""

from __future__ import annotations

from typing import Any

import pytest

from mlops_assets.ml.errors import SpecError
from mlops_assets.spec.yaml_text import FieldError, check_keys, fill_in


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a: 1\nb: 2\n", []),
        ("a: 1\nb: 2\na: 3\n", ["defs.yaml:3: a is there twice, first in line 1; remove one."]),
        ("x:\n  - {a: 1, a: 2}\n", ["defs.yaml:2: a is there twice, first in line 2; remove one."]),
        ("a: &x {k: 1}\nb:\n  <<: *x\n  k: 2\n", []),
        ("a: 1\n---\na: 2\n", []),
        ("a: 1\na: 2\nb: 1\nb: 2\n", ["defs.yaml:2: a", "defs.yaml:4: b"]),
    ],
)
def test_keys_that_are_there_twice_are_told_with_both_lines(text: str, lines: list[str]) -> None:
    if not lines:
        check_keys(text, "defs.yaml")
        return
    with pytest.raises(SpecError) as caught:
        check_keys(text, "defs.yaml")
    told = str(caught.value).splitlines()
    assert len(told) == len(lines)
    assert all(found.startswith(line) for found, line in zip(told, lines, strict=True))


def test_references_are_filled_in_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKET", "b")
    monkeypatch.delenv("SIZE", raising=False)
    given = {"source": {"uri": "s3://{{ env.BUCKET }}/x"}, "use": ["{{env('SIZE', '3')}}", 1, None]}
    assert fill_in(given) == {"source": {"uri": "s3://b/x"}, "use": ["3", 1, None]}


@pytest.mark.parametrize(
    ("given", "path", "message"),
    [
        ({"source": {"uri": "{{ env.NOT_THERE }}"}}, ("source", "uri"), "the environment has no NOT_THERE"),
        ({"train": {"params": {"a": ["{{ nope }}"]}}}, ("train", "params", "a", 0), "a template is {{ env.NAME }}"),
        ({"task": "{{ cycler.__init__.__globals__.os.popen('id').read() }}"}, ("task",), "a template is"),
        ({"task": "{% for x in y %}{% endfor %}"}, ("task",), "a template is"),
        ({"description": "{{ env.HOME }}"}, ("description",), "is shown to everybody"),
        ({"owners": ["{{ env.HOME }}"]}, ("owners", 0), "is shown to everybody"),
    ],
)
def test_nothing_else_is_a_template(given: dict[str, Any], path: tuple[str | int, ...], message: str) -> None:
    with pytest.raises(FieldError, match=message) as caught:
        fill_in(given)
    assert caught.value.path == path
