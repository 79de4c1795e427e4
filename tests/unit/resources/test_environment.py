"""The environment: what its variables say, and what is wrong with them."""

from __future__ import annotations

import pytest

from mlops_assets.ml.errors import SpecError
from resources.environment import Environment


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"MLOPS_ENV": "cloud"}, "set it to local .* or production"),
        ({"MLOPS_ENV": "production"}, "needs LAKE_URI, MLFLOW_TRACKING_URI, MLOPS_PREDICTOR_IMAGE"),
        ({"SERVING_PORT": "http"}, "SERVING_PORT is 'http'; give a port"),
        ({"MLFLOW_PORT": "70000"}, "MLFLOW_PORT is '70000'"),
    ],
)
def test_wrong_environment_variables_are_told(variables: dict[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Environment.read(variables)
