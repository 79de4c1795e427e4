"""How two versions' answers to one request differ, from the JSON of their responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

    Score = tuple[str | None, float]


class RowCompared(NamedTuple):
    """A row: whether its label differs, and the score of each version, which is its number or a probability."""

    changed: bool
    champion: float
    candidate: float


def compare(champion: bytes, candidate: bytes) -> list[RowCompared]:
    """Compare two responses, row by row; the probability is that of the last class of two, and of more the largest.

    Raises:
        ValueError: they have not the same number of rows, or are none.
    """
    pairs = zip(scores(orjson.loads(champion)), scores(orjson.loads(candidate)), strict=True)
    return [RowCompared(mine[0] != other[0], mine[1], other[1]) for mine, other in pairs]


def scores(response: Any) -> list[Score]:
    """Label, None for a number, and score of each row of a V1 or V2 response.

    >>> scores({"predictions": [{"label": "a", "probabilities": [0.75, 0.25]}]}), scores({"predictions": [2.0]})
    ([('a', 0.25)], [(None, 2.0)])

    Raises:
        ValueError: it is none.
    """
    try:
        if "predictions" in response:
            rows = response["predictions"]
            return [
                (str(row["label"]), score(row["probabilities"])) if isinstance(row, dict) else (None, float(row))
                for row in rows
            ]
        outputs = {output["name"]: output for output in response["outputs"]}
        if "prediction" in outputs:
            return [(None, float(value)) for value in outputs["prediction"]["data"]]
        labels, flat = outputs["label"]["data"], outputs["probabilities"]["data"]
        width = outputs["probabilities"]["shape"][1]
        return [(str(label), score(flat[i * width : (i + 1) * width])) for i, label in enumerate(labels)]
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"this is no response of a model: {error!r}") from error


def score(probabilities: Sequence[float]) -> float:
    """The probability that stands for a row.

    >>> score([0.75, 0.25]), score([0.25, 0.5, 0.25])
    (0.25, 0.5)
    """
    return float(probabilities[-1] if len(probabilities) == 2 else max(probabilities))
