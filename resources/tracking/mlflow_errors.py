"""What MLflow's client raises, as errors of ours: what is wrong, and what to do."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from mlops_assets.ml.errors import MlopsError, TrackingError, TrackingRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

UNCHANGED = "Nothing was registered or deployed"


Client = TypeVar("Client")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def translate_errors(
    method: Callable[Concatenate[Client, Parameters], Result],
) -> Callable[Concatenate[Client, Parameters], Result]:
    """Let a method that speaks to the MLflow server at its object's `address` raise errors of ours."""

    @functools.wraps(method)
    def call(self: Client, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        client: Any = self
        with translated_errors(client.address):
            return method(self, *args, **kwargs)

    return call


@contextmanager
def translated_errors(address: str) -> Generator[None]:
    """Turn what MLflow, and the store of its artifacts, raise in the block into errors of ours.

    Raises:
        TrackingError: the server or the store cannot be reached.
        TrackingRefused: it answers, and refuses.
    """
    try:
        yield
    except MlopsError:
        raise
    except Exception as error:
        translated = _translated(error, address)
        if translated is None:
            raise
        raise translated from error


def _translated(error: Exception, address: str) -> TrackingError | None:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    if isinstance(error, MlflowException):
        return _of_status(error.get_http_status_code(), error, address)
    if isinstance(error, RequestException):
        return _of_status(error.response.status_code if error.response is not None else 503, error, address)
    if isinstance(error, (BotoCoreError, Boto3Error, ClientError)):
        what = f"The artifact store of the MLflow server at {address} cannot be reached or refuses this: {error}"
        return TrackingError(what.rstrip("."), remedy=f"correct the access. {UNCHANGED}")
    return None


def _of_status(status: int, error: Exception, address: str) -> TrackingError:
    said = " ".join(str(error).split())[:500].rstrip(".")
    if "possible DNS rebinding" in said or "Invalid Host header" in said:
        what = f"The MLflow server at {address} does not serve this host name ({said})"
        return TrackingRefused(what, remedy="add it to the server's --allowed-hosts, or correct MLFLOW_TRACKING_URI")
    if status == 401:
        what = f"The MLflow server at {address} refuses the login (401)"
        remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        return TrackingRefused(what, remedy=f"{remedy}. {UNCHANGED}")
    if status == 403:
        what = f"The MLflow server at {address} does not allow this to MLFLOW_TRACKING_USERNAME (403: {said})"
        return TrackingRefused(what, remedy=f"give that user the permission in MLflow. {UNCHANGED}")
    if 400 <= status < 500 and status not in (408, 429, 499):
        what = f"The MLflow server at {address} refuses this: {said}"
        return TrackingRefused(what, remedy=f"correct it in MLflow. {UNCHANGED}")
    what = f"The MLflow server at {address} cannot be reached, or fails ({said})"
    return TrackingError(what, remedy=f"start it, or correct MLFLOW_TRACKING_URI. {UNCHANGED}")
