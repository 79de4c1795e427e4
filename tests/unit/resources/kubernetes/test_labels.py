"""Labels, annotations and tags: names that Kubernetes takes, each written once."""

from __future__ import annotations

import re
from pathlib import Path

from resources.kubernetes import labels

PROJECT = Path(__file__).parents[4]
NAMES = {name: value for name, value in vars(labels).items() if name.isupper() and isinstance(value, str)}
KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


def test_every_name_is_a_valid_key_or_value() -> None:
    assert [value for value in [*NAMES.values(), *labels.DO_NOT_DISRUPT] if not KEY.fullmatch(value)] == []
    assert all(isinstance(value, str) for value in labels.DO_NOT_DISRUPT.values()), "annotations are text"


def test_no_two_names_are_the_same() -> None:
    assert len(set(NAMES.values())) == len(NAMES)


def test_our_own_labels_are_written_nowhere_else() -> None:
    found = {
        str(path.relative_to(PROJECT))
        for package in ("mlops_assets", "resources")
        for path in (PROJECT / package).rglob("*.py")
        if re.search(r"[\"']mlops\.dev/", path.read_text())
    }
    assert found == {"resources/kubernetes/labels.py"}
