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


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"train": None},
            "train: it is empty; give fields: network (torch.nn.Module or scikit-learn estimator, by import path); "
            "and of params, epochs,",
        ),
        ({"train": "sklearn"}, "train: 'sklearn' is no set of fields; give fields: network (torch.nn.Module"),
        ({"prepare": None}, "prepare: it is empty; give fields: drop_nulls, drop_duplicates,"),
        ({"columns": None}, "columns: it is empty; give fields: name: value."),
    ],
)
def test_a_field_without_its_own_fields_is_told_with_those_that_it_needs(changed: dict[str, object], told: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(attributes(**changed), None, "defs.yaml")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "hint"),
    [
        ({"train__epoch": 20}, "there is no such field (did you mean epochs?)"),
        ({"gate__metric": "acuracy"}, "there is no metric acuracy (did you mean accuracy?)"),
        ({"features__use": ["presure"]}, "presure is not among the columns (did you mean pressure?)"),
    ],
)
def test_a_name_that_is_nearly_right_is_told_with_the_right_one(changed: dict[str, object], hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(attributes(**changed), None, "defs.yaml")
    assert hint in str(caught.value)
