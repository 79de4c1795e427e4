"""Explains a model's answers to rows by attributions to raw columns; the same code in the server and offline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.ml.errors import BadRequest
from mlops_assets.ml.inference.attributions import attributions
from mlops_assets.ml.values import Value, as_answered

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlops_assets.ml.inference.artifact import ModelSignature
    from mlops_assets.ml.inference.onnx_model import OnnxModel

    Arrays = dict[str, NDArray[Any]]


class Explanation(Value):
    """What moved the answer to a row: `base_value` and all `attributions` add up to `value`.

    Of a regression `value` is the prediction, of a classification the probability of the class `label`, which is as the
    graph answers it: of booleans, 0 or 1.
    """

    label: int | float | str | None = None
    value: float
    base_value: float
    attributions: dict[str, float]


def explain_rows(
    model: OnnxModel, signature: ModelSignature, inputs: Arrays, background: Arrays, label: Any = None
) -> list[Explanation]:
    """Explain the answer to each row of `inputs`, against those to `background`; both as the graph takes them.

    Of a classification `label` is the class whose probability is explained, that of the highest where it is None.

    Raises:
        BadRequest: the model has no such class.
    """
    output = "prediction" if signature.classes is None else "probabilities"
    chosen = _index_of(label, signature)

    def answer(columns: Arrays) -> NDArray[np.float64]:
        return model.predict(columns)[output].astype(np.float64)

    explanations = list[Explanation]()
    for number in range(len(next(iter(inputs.values())))):
        row = {name: values[number : number + 1] for name, values in inputs.items()}
        found = attributions(answer, row, background)
        value = found.base + found.of_columns.sum(axis=0)
        index = (int(value.argmax()) if chosen is None else chosen) if signature.classes is not None else 0
        explanations.append(
            Explanation(
                label=None if signature.classes is None else as_answered(signature.classes[index]),
                value=value[index],
                base_value=found.base[index],
                attributions=dict(zip(row, found.of_columns[:, index].tolist(), strict=True)),
            )
        )
    return explanations


def _index_of(wanted: Any, signature: ModelSignature) -> int | None:
    """The column of `probabilities` that a class has."""
    if wanted is None:
        return None
    if signature.classes is None:
        raise BadRequest("this model predicts a number, and has no classes; leave label out")
    for index, known in enumerate(signature.classes):
        if wanted == known and isinstance(wanted, str) == isinstance(known, str):
            return index
    shown = ", ".join(repr(as_answered(known)) for known in signature.classes[:10])
    raise BadRequest(f"label is {repr(wanted)[:40]}, but must be one of {shown}")
