"""Everything that decides a model's weights, apart from the data: the part of the YAML's `train` that counts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mlops_assets.ml.class_source import library_of
from mlops_assets.ml.import_paths import ImportPath
from mlops_assets.ml.values import EXPONENT, Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NETWORK_FIELDS = (
    "epochs",
    "batch_size",
    "learning_rate",
    "schedule",
    "weight_decay",
    "precision",
    "early_stopping",
    "checkpoint_every",
)


def _with_numbers(value: Any) -> Any:
    """YAML 1.1 reads 1e-3 as text; here it is the number that was meant, at any depth."""
    if isinstance(value, dict):
        return {key: _with_numbers(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_with_numbers(entry) for entry in value]
    return float(value) if isinstance(value, str) and re.match(EXPONENT, value) else value


Params = Annotated[dict[str, Any], BeforeValidator(_with_numbers, json_schema_input_type=dict[str, Any])]


class EarlyStopping(Value):
    """When training ends before its last epoch."""

    patience: int = Field(ge=1, description="Epochs without improvement of the validation loss")
    min_delta: float = Field(default=0.0, ge=0, description="A smaller improvement does not count")


class TrainingConfig(Value):
    """The network or estimator, its hyperparameters, and how it is fitted."""

    network: ImportPath = Field(description="torch.nn.Module or scikit-learn estimator, by import path")
    params: Params = Field(
        default_factory=dict,
        description="Arguments of the network or estimator; an estimator in them is {class: import path, params: {}}",
    )
    epochs: int = Field(default=20, ge=1, le=100_000, description="Passes over the train rows, at most")
    batch_size: int = Field(default=1024, ge=1, description="Rows of one step")
    learning_rate: float = Field(default=0.001, gt=0, description="Step size of Adam")
    schedule: Literal["constant", "cosine"] = Field(
        default="constant", description="The learning rate over the epochs: constant, or falling to 0 like a cosine"
    )
    weight_decay: float = Field(default=0.0, ge=0, description="L2 penalty on the weights")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="Of the network's computation: bfloat16 (mixed precision) rounds more, and is faster on a GPU",
    )
    early_stopping: EarlyStopping | None = Field(default=None, description="Stop when validation does not improve")
    seed: int = Field(default=0, ge=0, description="Of weights, order of rows, dropout and all other random numbers")

    @property
    def settings(self) -> dict[str, Any]:
        """The fields that decide the result, as JSON: of an estimator those that are about networks do not."""
        unused = set[str](NETWORK_FIELDS) if library_of(self.network) == "sklearn" else set[str]()
        return self.model_dump(mode="json", exclude=unused)

    @property
    def classes(self) -> tuple[str, ...]:
        """The import paths of the network or estimator, and of the estimators in its params."""
        return (self.network, *(given["class"] for _, given in nested_estimators(self.params)))


def nested_estimators(params: Any, field: str = "params") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All `{class: ..., params: ...}` in params, at any depth, by dotted field."""
    if is_estimator(params):
        yield field, params
    entries = params.items() if isinstance(params, dict) else enumerate(params) if isinstance(params, list) else ()
    for key, entry in entries:
        yield from nested_estimators(entry, f"{field}.{key}")


def is_estimator(value: Any) -> bool:
    """Whether this is how the YAML's params name an estimator.

    >>> is_estimator({"class": "sklearn.svm.SVC", "params": {"C": 2}}), is_estimator({"class": "svm", "weight": 2})
    (True, False)
    """
    return isinstance(value, dict) and "class" in value and value.keys() <= {"class", "params"}
