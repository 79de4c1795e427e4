"""What libyaml reads of a YAML is what Dagster's own parser reads, with the same places and the same errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from dagster_shared.yaml_utils import parse_yamls_with_source_position

from mlops_assets.components.read_yaml import read_yaml

PROJECT = Path(__file__).parents[3]
SHIPPED = sorted((PROJECT / "mlops_assets/defs").glob("*/defs.yaml"))
READ = {
    "moments stay texts": "start: 2013-01-01\nat: 2013-01-01T00:00:00Z\n",
    "numbers and words of YAML 1.1": "a: [1, 1.5, 1e-3, 0o7, 017, yes, off, null, ~, .nan, -.inf]\n",
    "texts": "a: 'it''s'\nb: \"\\u00e9\\n\"\nc: |\n  two\n  lines\nd: >-\n  one\n  line\n",
    "flow": "{a: {b: [1, {c: d}]}, 'e f': g}\n",
    "anchors and merges": "a: &x {b: 1}\nc: {<<: *x, d: *x}\n",
    "tags": "a: !!str 1\nb: !!binary aGk=\nc: !!float 1\n",
    "several documents": "a: 1\n---\nb: 2\n...\n---\n- 3\n",
    "keys that are no texts": "1: a\ntrue: b\n2013-01-01: c\n",
    "a key that is there twice": "a: 1\na: 2\n",
    "nothing": "",
    "a comment": "# nothing\n",
}
REFUSED = [
    "a: [1",
    "a: b: c",
    "\ta: 1",
    "a: *nobody",
    "? [a, b]\n: c",
    "a: !python/object:os.x {}",
    "&a [*a]",
    "a: \x00",
]


@pytest.mark.parametrize("text", [*READ.values(), *(file.read_text() for file in SHIPPED)])
def test_it_is_read_as_dagster_reads_it(text: str) -> None:
    # By their texts, where .nan is itself
    assert repr(read_yaml(text, "defs.yaml")) == repr(parse_yamls_with_source_position(text, "defs.yaml"))


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_wrong_is_told_as_dagster_tells_it(text: str) -> None:
    with pytest.raises((yaml.YAMLError, TypeError)) as expected:
        parse_yamls_with_source_position(text, "defs.yaml")
    with pytest.raises(expected.type) as found:
        read_yaml(text, "defs.yaml")
    assert str(found.value) == str(expected.value)
