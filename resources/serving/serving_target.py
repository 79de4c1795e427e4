"""Where versions are served: what every serving target does, and the proof that a version answers as it did offline."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.ml.errors import DeploymentError
from mlops_assets.ml.inference.onnx_model import largest_difference
from mlops_assets.ml.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlops_assets.ml.inference.artifact import ModelSignature

    Post = Callable[[str, dict[str, Any]], dict[str, Any]]


PATIENCE_S = 60


class Proof(Value):
    """Over HTTP the endpoint gave the answers the model gave offline."""

    url: str
    rows: int
    difference: float
    example: str


class Serving(dg.ConfigurableResource[Any], ABC):
    """A place where versions of models are served."""

    @abstractmethod
    def warm_up(self) -> None:
        """Begin in the background what takes long, so that the target answers by the time it is needed."""

    @abstractmethod
    def roll_out(self, model: str, artifact: Path, sha256: str, version: int) -> Proof:
        """Serve a version: up as candidate, proved on its golden rows over HTTP, swapped in, proved again.

        Raises:
            DeploymentError: it was refused or answered wrongly; the version that answered before still does.
        """

    @abstractmethod
    def current(self, model: str) -> dict[str, str] | None:
        """Version and digest of what is served under the model's name."""


def prove(post: Post, url: str, model: str, signature: ModelSignature, name: str | None = None) -> Proof:
    """Send a model's golden rows to where it is served (as `name`) and compare the answers with the offline ones.

    Raises:
        DeploymentError: they differ by more than the model's tolerance.
    """
    golden = signature.golden
    inputs = [
        {
            "name": column.name,
            "datatype": column.datatype,
            "shape": [len(golden.rows), 1],
            "data": [row[column.name] for row in golden.rows],
        }
        for column in signature.inputs
    ]
    answer = post(f"/v2/models/{name or model}/infer", {"inputs": inputs})
    found = {output["name"]: _shaped(output) for output in answer["outputs"]}
    difference = largest_difference(golden.outputs, found)
    if not difference <= signature.allowed_difference:
        raise DeploymentError(
            f"it answers {len(golden.rows)} golden rows differently than offline, by {difference:.3g}"
        )
    body = json.dumps({"instances": [dict(golden.rows[0])]})
    example = f"curl {url}/v1/models/{model}:predict -d '{body}'"
    return Proof(url=url, rows=len(golden.rows), difference=difference, example=example)


def post(url: str, body: dict[str, Any], absent: Callable[[], object]) -> dict[str, Any]:
    """The answer to a JSON request; for a minute, `absent` is called and the request repeated when nobody answers.

    Raises:
        DeploymentError: the server refused the request.
        OSError: nobody answers.
    """
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            reason = json.loads(error.read() or b"{}").get("error", error.reason)
            raise DeploymentError(str(reason)) from error
        except OSError:
            if time.monotonic() > deadline:
                raise
            absent()


def _shaped(output: dict[str, Any]) -> list[Any]:
    import numpy as np

    return np.asarray(output["data"], dtype=object).reshape(output["shape"]).tolist()
