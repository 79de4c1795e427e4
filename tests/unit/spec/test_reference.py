"""docs/reference.md: it is what the code gives, and it has every field and every error."""

from __future__ import annotations

import inspect
from pathlib import Path

from mlops_assets.ml import errors
from mlops_assets.spec.model_spec import ModelSpec
from mlops_assets.spec.reference import error_types, fields, page

PROJECT = Path(__file__).parents[3]


def test_the_page_is_what_the_code_gives() -> None:
    assert (PROJECT / "docs/reference.md").read_text() == page(), "run `make schema`"


def test_fields_have_their_dotted_name_type_default_and_limits() -> None:
    found = {field.name: field for field in fields()}
    assert found["train.epochs"][1:4] == ("integer", "`20`", "at least 1, at most 100000")
    assert found["train.network"].default == "required"
    assert found["train.compute.grace"].default == "`2m`"
    assert found["train.early_stopping.patience"].allowed == "at least 1"
    assert found["columns.NAME.values"][1:4] == ("list of string", "none", "at least 1 item")
    assert found["task"].allowed == "`regression`, `binary_classification`, `multiclass_classification`"
    assert list(ModelSpec.model_fields) == [name for name in found if "." not in name]


def test_all_errors_are_in_the_table() -> None:
    classes = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__}
    assert classes == {errors.MlopsError, *error_types()}
    assert all(f"`{kind.__name__}`" in page() for kind in error_types())
