"""What MLflow's client raises reaches nobody as it is."""

from __future__ import annotations

import pytest
from botocore.exceptions import EndpointConnectionError
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, UNAUTHENTICATED
from requests import ConnectionError as NoConnection

from mlops_assets.ml.errors import DataError, TrackingError, TrackingRefused
from resources.tracking.mlflow_errors import translated_errors

REFUSED = [
    (MlflowException("who", UNAUTHENTICATED), r"refuses the login \(401\); set MLFLOW_TRACKING_USERNAME and"),
    (MlflowException("no", PERMISSION_DENIED), r"does not allow this to MLFLOW_TRACKING_USERNAME \(403: no\)"),
    (RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "bad."}), r"refuses this: .*bad; correct it"),
    (MlflowException("Invalid Host header - possible DNS rebinding attack detected"), "--allowed-hosts"),
]
UNREACHABLE = [
    (MlflowException("API request failed with exception refused"), r"cannot be reached.*MLFLOW_TRACKING_URI\. Nothing"),
    (
        RestException({"error_code": "INTERNAL_ERROR", "message": "x"}),
        r"cannot be reached, or fails \(INTERNAL_ERROR: x",
    ),
    (NoConnection("refused"), "cannot be reached"),
    (EndpointConnectionError(endpoint_url="http://s3"), "artifact store of the MLflow server at http://mlflow cannot"),
]


@pytest.mark.parametrize(("error", "told"), [*REFUSED, *UNREACHABLE])
def test_it_is_told_as_cause_and_remedy(error: Exception, told: str) -> None:
    with pytest.raises(TrackingError, match=told) as caught, translated_errors("http://mlflow"):
        raise error
    assert "http://mlflow" in str(caught.value)
    assert caught.value.__cause__ is error


def test_only_what_may_pass_by_itself_is_tried_again() -> None:
    for error, _ in [*REFUSED, *UNREACHABLE]:
        with pytest.raises(TrackingError) as caught, translated_errors("http://mlflow"):
            raise error
        assert caught.value.retryable == (error in [error for error, _ in UNREACHABLE])
        assert isinstance(caught.value, TrackingRefused) != caught.value.retryable


@pytest.mark.parametrize("error", [DataError("ours"), KeyError("a bug"), OSError("the disk")])
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, translated_errors("http://mlflow"):
        raise error
    assert caught.value is error
