"""The proof that a version answers over HTTP as it did offline, by the golden rows that lie in its artifact."""

from __future__ import annotations

import json
import shlex
import time
import urllib.error
import urllib.request
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.errors import DeploymentError
from mlops_assets.ml.inference.onnx_model import largest_difference
from mlops_assets.ml.values import Value
from mlops_assets.serving.http_answers import REPLAY, ROLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlops_assets.ml.inference.artifact import ModelSignature

PATIENCE_S = 60
PROOF_ID = "golden-rows"  # of requests that no user has asked
UNRECORDED = {ROLE.decode(): REPLAY.decode()}  # headers of a request that a candidate does not keep
FORWARDED = "http://127.0.0.1:8080"


class Endpoint(Value):
    """Where a version answers: the URL of its server, and its model's name there.

    `public_url` is for people and their browsers, where that is another one; `forward` is the command that brings a
    server nobody outside reaches to FORWARDED on their own machine. Where there is a `transformer`, that is what
    callers ask, without the columns that are `looked_up`.
    """

    url: str
    model: str
    public_url: str | None = None
    forward: str | None = None
    transformer: str | None = None
    looked_up: tuple[str, ...] = ()
    credential: str | None = None
    """The header by which callers show who they are, as a shell writes it."""
    has_page: bool = True
    """Whether the address for people shows the model's page."""


class RolloutStep(Value):
    """A state that a roll-out has reached: when, and what was found there."""

    state: str
    time: datetime
    found: str


class Proof(Value):
    """Over HTTP the endpoint gave the answers the model gave offline; `difference` is the largest of a number.

    `steps` are those of its roll-out, `pairs` scores of the champion and of it for the same rows.

    `model` is what it is called there; `link` is the model's page for a browser, None where no browser reaches it;
    `example` a request for a shell.
    """

    url: str
    model: str
    link: str | None
    rows: int
    difference: float
    example: str
    steps: tuple[RolloutStep, ...] = ()
    pairs: tuple[tuple[float, float], ...] = ()

    @property
    def evidence(self) -> dict[str, Any]:
        """What the ledger keeps of it."""
        steps = [step.model_dump(mode="json") for step in self.steps]
        return {"max_abs_difference": self.difference, "rows": self.rows, "rollout": steps}


def verify_golden_rows(
    endpoint: Endpoint, signature: ModelSignature, post: Callable[[str, dict[str, Any], dict[str, str]], dict[str, Any]]
) -> Proof:
    """Send a model's golden rows to where it is served and compare the answers with the offline ones.

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
    url = f"{endpoint.url}/v2/models/{endpoint.model}/infer"
    response = post(url, {"id": PROOF_ID, "inputs": inputs}, UNRECORDED)
    answers = {output["name"]: _reshaped(output) for output in response["outputs"]}
    difference = largest_difference(golden.outputs, answers)
    if not difference <= signature.allowed_difference:
        raise DeploymentError(
            f"it answers {len(golden.rows)} golden rows differently than offline, by {difference:.3g}"
        )
    row = {name: value for name, value in golden.rows[0].items() if name not in endpoint.looked_up}
    body = shlex.quote(json.dumps({"instances": [row]}))
    public = endpoint.public_url or (None if endpoint.forward else endpoint.url)
    header = f'-H "{endpoint.credential}" ' if endpoint.credential else ""
    example = f"curl {header}{public or FORWARDED}/v1/models/{endpoint.model}:predict -d {body}"
    if public is None:
        example = f"{endpoint.forward} &\n{example}"
    link = f"{public}/v2/models/{endpoint.model}" if public and endpoint.has_page else None
    return Proof(
        url=endpoint.transformer or endpoint.url,
        model=endpoint.model,
        link=link,
        rows=len(golden.rows),
        difference=difference,
        example=example,
    )


def post_json(
    url: str, body: dict[str, Any], before_retry: Callable[[], object], headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The response to a JSON request, which is repeated for a minute while nobody answers.

    Raises:
        DeploymentError: the server refused the request.
        OSError: nobody answers.
    """
    all_headers = {"content-type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, json.dumps(body).encode(), all_headers)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            reason = json.loads(error.read() or b"{}").get("error", error.reason)
            raise DeploymentError(str(reason)) from error
        except OSError:
            if time.monotonic() > deadline:
                raise
            before_retry()


def _reshaped(output: dict[str, Any]) -> list[Any]:
    import numpy as np

    return np.asarray(output["data"], dtype=object).reshape(output["shape"]).tolist()
