"""From YAML to spec: what is told when several things are wrong at once."""

from __future__ import annotations

import pytest

from mlops_assets.ml.errors import SpecError
from mlops_assets.spec.load_spec import load_spec
from tests.support import attributes


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(attributes("task", train__epochs=0, gate__metric="auc"), None, "defs.yaml")
    assert len(str(caught.value).splitlines()) == 3
