"""How two versions' answers to one request differ, from their responses over HTTP."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.errors import BadRequest
from mlops_assets.serving.inference_protocol import listed, parse_v2, tensors_of
from mlops_assets.serving.traffic import Observed, drawn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Score = tuple[str | None, float | None]


def compared(champion: Sequence[Score], candidate: Sequence[Score]) -> Observed:
    """Compare the answers to one request, row by row; where the champion gives no number, as beyond the largest one,
    the candidate's says nothing.

    Raises:
        ValueError: they have not the same number of rows, or the candidate alone gives no number.
    """
    rows = list(zip(champion, candidate, strict=True))
    rows = [(mine, its) for mine, its in rows if mine[0] is not None or _can_be_measured(mine[1])]
    pairs = [(mine, its) for (_, mine), (_, its) in rows if mine is not None and its is not None]
    pairs = [(mine, its) for mine, its in pairs if _can_be_measured(mine)]
    if not all(_can_be_measured(its) for _, its in pairs):
        raise ValueError("an answer is no number, where the champion's is one")
    return Observed(
        rows=len(rows),
        changed=sum(mine != its for (mine, _), (its, _) in rows),
        sample=drawn(pairs),
    )


def _can_be_measured(score: float | None) -> bool:
    return score is not None and math.isfinite(score * score)


def scores_of(body: bytes, json_bytes: int | None = None) -> list[Score]:
    """Label and score of each row of a response, of which the first `json_bytes` are JSON where binary tensors follow.

    Raises:
        ValueError: it is none.
    """
    try:
        content, binary = parse_v2(body, json_bytes)
        if binary is not None:
            outputs = tensors_of(content, "outputs", binary)
            content = {
                "outputs": [tensor._asdict() | {"data": listed(tensor, f"output {tensor.name}")} for tensor in outputs]
            }
    except BadRequest as error:
        raise ValueError(f"this is no response of a model: {error}") from error
    return scores(content)


def scores(response: Mapping[str, Any]) -> list[Score]:
    """Label and score of each row of a V1 or V2 response.

    A score is the number, or the probability of the last class of two, and of more the largest; None where only labels
    were asked for, and NaN where JSON has null, as it has for what is no finite number. A label is None for a number;
    where only probabilities were asked for, the place of the largest.

    >>> scores({"predictions": [{"label": "a", "probabilities": [0.75, 0.25]}]}), scores({"predictions": [2.0]})
    ([('a', 0.25)], [(None, 2.0)])

    Raises:
        ValueError: it is none.
    """
    try:
        if "predictions" in response:
            rows = response["predictions"]
            return [
                (str(row["label"]), score(row["probabilities"])) if isinstance(row, dict) else (None, _number(row))
                for row in rows
            ]
        outputs = {output["name"]: output for output in response["outputs"]}
        if "prediction" in outputs:
            return [(None, _number(value)) for value in outputs["prediction"]["data"]]
        if "probabilities" not in outputs:
            return [(str(label), None) for label in outputs["label"]["data"]]
        flat, width = list(map(_number, outputs["probabilities"]["data"])), outputs["probabilities"]["shape"][1]
        by_row = [flat[begin : begin + width] for begin in range(0, len(flat), width)]
        labels = outputs["label"]["data"] if "label" in outputs else [row.index(max(row)) for row in by_row]
        return [(str(label), score(row)) for label, row in zip(labels, by_row, strict=True)]
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"this is no response of a model: {error!r}") from error


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def score(probabilities: Sequence[float | None]) -> float:
    """The probability that stands for a row; NaN where one of them is no number.

    >>> score([0.75, 0.25]), score([0.25, 0.5, 0.25]), score([0.25, None, 0.25])
    (0.25, 0.5, nan)
    """
    numbers = list(map(_number, probabilities))
    if math.isnan(sum(numbers)):
        return math.nan
    return numbers[-1] if len(numbers) == 2 else max(numbers)
