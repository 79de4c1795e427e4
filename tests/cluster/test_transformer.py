"""A model with feature views on KServe: its transformer looks them up in PostgreSQL, in pods of its own."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mlops_assets.datasets import weather
from mlops_assets.serving.grpc_messages import SERVICE, pb
from resources.serving.serving_pod import GRPC
from tests.cluster.kubectl import forwarded
from tests.cluster.waiting import SOON_S, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.platform import Platform

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
MODEL = "departures"
VIEWED = ("temp", "wind_speed")
FLIGHT = {"carrier": "UA", "origin": "EWR", "hour": 17}


def asked(service: str, verb: str, row: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """What the model's transformer or predictor says of a row."""
    body = json.dumps({"instances": [row]}).encode()

    def answer() -> tuple[int, dict[str, Any]] | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models/{MODEL}:{verb}", body, timeout=30) as found:
                return found.status, json.load(found)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return None

    with forwarded(f"service/{MODEL}-{service}", 80) as port:
        return wait_until(answer, SOON_S, f"the {service} answers")


def predicted(service: str, row: dict[str, Any]) -> dict[str, Any]:
    """The answer to a row."""
    code, told = asked(service, "predict", row)
    assert code == 200, told
    return told["predictions"][0]


@pytest.fixture(scope="module")
def deployed(platform: Platform) -> None:
    platform.run_succeeds(platform.launch(job=MODEL))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The newest weather at the airport, and when it was."""
    folder: Path = tmp_path_factory.mktemp("weather")
    weather(folder)
    table = pq.read_table(folder / "2013.parquet", columns=["origin", "time_hour", *VIEWED])
    return table.filter(pc.field("origin") == FLIGHT["origin"]).sort_by("time_hour").to_pylist()[-1]


@pytest.mark.usefixtures("deployed")
def test_a_row_is_answered_with_the_features_of_its_moment(known: dict[str, Any]) -> None:
    moment = {"event_timestamp": f"{known['time_hour']:%Y-%m-%dT%H:%M:%SZ}"}
    values = {name: known[name] for name in VIEWED}
    answer = predicted("transformer", FLIGHT | moment)
    assert answer == predicted("predictor", FLIGHT | values)
    # What is known of then is too old today
    assert predicted("transformer", FLIGHT) == predicted("predictor", FLIGHT | dict.fromkeys(VIEWED))
    code, refused = asked("transformer", "predict", FLIGHT | values)
    assert (code, "looked up" in refused["error"]) == (400, True)

    code, explained = asked("transformer", "explain", FLIGHT | moment)
    assert code == 200
    [explanation] = explained["explanations"]
    assert explanation["attributions"].keys() == {*FLIGHT, *VIEWED}
    whole = explanation["base_value"] + sum(explanation["attributions"].values())
    assert whole == pytest.approx(explanation["value"], abs=1e-3)
    assert explanation["value"] == pytest.approx(max(answer["probabilities"]), abs=1e-3)


@pytest.mark.usefixtures("deployed")
def test_grpc_gets_the_same_features(known: dict[str, Any]) -> None:
    moment = f"{known['time_hour']:%Y-%m-%dT%H:%M:%SZ}"
    probabilities = predicted("transformer", FLIGHT | {"event_timestamp": moment})["probabilities"]
    request = pb.ModelInferRequest(model_name=MODEL)
    for name, value in (FLIGHT | {"event_timestamp": moment}).items():
        is_text = isinstance(value, str)
        tensor = request.inputs.add(name=name, datatype="BYTES" if is_text else "FP32", shape=[1, 1])
        (tensor.contents.bytes_contents if is_text else tensor.contents.fp32_contents).append(
            value.encode() if is_text else value
        )
    with forwarded(f"deployment/{MODEL}-transformer", GRPC) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as way:
        infer = way.unary_unary(
            f"/{SERVICE}/ModelInfer", pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
        )
        response = infer(request, timeout=SOON_S, wait_for_ready=True)
    outputs = {output.name: output.contents for output in response.outputs}
    assert list(outputs["probabilities"].fp32_contents) == pytest.approx(probabilities, abs=1e-6)
