"""A transformer as KServe means it: rows with names in, lists of numbers to the predictor, and names of species out."""

from __future__ import annotations

import argparse
from typing import Any

from kserve import Model, ModelServer, model_server
from kserve.errors import InvalidInput
from kserve.model import PredictorConfig

COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
SPECIES = ("setosa", "versicolor", "virginica")


class IrisTransformer(Model):
    """Between a caller's request and the predictor's."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.ready = True

    def preprocess(self, payload: Any, headers: dict[str, str] | None = None) -> dict[str, Any]:
        rows = payload.get("instances") if isinstance(payload, dict) else None
        if not isinstance(rows, list):
            raise InvalidInput('"instances" must be a list of objects')
        try:
            return {"instances": [[float(row[column]) for column in COLUMNS] for row in rows]}
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"a row must have the numbers {', '.join(COLUMNS)}: {error!r}") from error

    def postprocess(self, result: Any, headers: dict[str, str] | None = None) -> dict[str, Any]:
        return {"predictions": [SPECIES[int(number)] for number in result["predictions"]]}


def main() -> None:
    """Serve, with the arguments that KServe gives a transformer."""
    arguments, _ = argparse.ArgumentParser(parents=[model_server.parser]).parse_known_args()
    predictor = PredictorConfig(arguments.predictor_host, arguments.predictor_protocol)
    ModelServer(http_port=arguments.http_port, enable_grpc=False, predictor_config=predictor).start(
        [IrisTransformer(arguments.model_name)]
    )


if __name__ == "__main__":
    main()
