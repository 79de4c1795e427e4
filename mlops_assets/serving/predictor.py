"""A model in the server: an artifact that is checked before it is loaded, and answers its golden rows before others."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from mlops_assets.ml.errors import ArtifactError, BadRequest
from mlops_assets.ml.inference.artifact import load_artifact
from mlops_assets.ml.inference.onnx_model import OnnxModel, largest_difference
from mlops_assets.serving.answer_metrics import observe_answers
from mlops_assets.serving.http_answers import MIRROR, REPLAY
from mlops_assets.serving.inference_protocol import (
    RequestReader,
    binary_tensor,
    new_request_id,
    parse_json,
    parse_v2,
    request_id_of,
)
from mlops_assets.serving.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from mlops_assets.ml.inference.artifact import InputColumn
    from mlops_assets.serving.declaration import ServedVersion

GRAPH_DATATYPES = {
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(int64)": "INT64",
    "tensor(string)": "BYTES",
}
PROOF_WITHIN_S = 30  # a graph may hold a loop without an end


# What keeps an answered request: the predictor, the request's id and role, seconds, inputs, outputs, bytes of the body
Record = Callable[["Predictor", str, str, float, "dict[str, NDArray[Any]]", "dict[str, NDArray[Any]]", int], None]


def nothing_recorded(*_: object) -> None:
    """Keep no request."""


class Prediction(NamedTuple):
    """A response to a prediction request. `json_bytes` of `body` are JSON where binary tensors follow it."""

    request_id: str
    body: bytes
    json_bytes: int | None = None


class TensorDescription(NamedTuple):
    """A tensor that a model takes or gives, in the words of V2's metadata; -1 is any number."""

    name: str
    datatype: str
    shape: list[int]


class Predictor:
    """One version of one model, which is answered for as `name`.

    Raises:
        ArtifactError: the files are refused, or the golden rows are answered differently than in training.
    """

    def __init__(
        self,
        name: str,
        served: ServedVersion,
        folder: Path,
        max_rows: int = Limits().rows,
        record: Record = nothing_recorded,
        *,
        is_candidate: bool = False,
        gpu: bool = False,
    ) -> None:
        self.name, self.served, self._record, self.is_candidate = name, served, record, is_candidate
        graph, self.signature = load_artifact(folder, served.sha256)
        self.onnx = OnnxModel(graph, gpu=gpu)
        self.reader = RequestReader(self.signature.inputs, max_rows)
        self._classes = self.signature.class_texts
        self._datatypes = {output.name: output.datatype for output in self.outputs}
        self.prove()
        self.asked, self.asked_at = 0, time.perf_counter()  # when it was asked last, or else loaded

    def prove(self) -> None:
        """Answer the golden rows; a model that answers them differently than it did in training is not ready.

        Raises:
            ArtifactError: it does, or cannot be run.
        """
        golden = self.signature.golden
        try:
            inputs = self.reader.v1({"instances": [dict(row) for row in golden.rows]})
        except BadRequest as error:
            raise ArtifactError(f"the golden rows do not fit the model's own inputs: {error}") from error
        answers = self.onnx.predict_within(PROOF_WITHIN_S, inputs)
        outputs = {name: values.tolist() for name, values in answers.items()}
        difference, allowed = largest_difference(golden.outputs, outputs), self.signature.allowed_difference
        if not difference <= allowed:
            raise ArtifactError(
                f"version {self.served.version} answers its golden rows differently than in training: "
                f"by {difference:.3g}, allowed {allowed:.3g}; refused"
            )

    @cached_property
    def background(self) -> dict[str, NDArray[Any]]:
        """What explanations begin from, as the graph takes it."""
        return self.reader.v1({"instances": [dict(row) for row in self.signature.explained_from]})

    def predict_v1(self, body: bytes, request_id: str | None, role: bytes | None = None) -> Prediction:
        """Answer a V1 request; its id is that of its header, or one of ours. `role` is why a candidate is asked.

        Raises:
            BadRequest: it does not fit the model.
        """
        start = time.perf_counter()
        content = parse_json(body)
        request_id = request_id_of(content.get("id")) or request_id_of(request_id) or new_request_id()
        outputs = self.answer(request_id, self.reader.v1(content), start, len(body), role)
        if "prediction" in outputs:
            predictions: list[Any] = outputs["prediction"][:, 0].tolist()
        else:
            pairs = zip(outputs["label"].tolist(), outputs["probabilities"].tolist(), strict=True)
            predictions = [{"label": label, "probabilities": row} for label, row in pairs]
        response = self._named(request_id) | {"predictions": predictions}
        return Prediction(request_id, orjson.dumps(response))

    def predict_v2(
        self, body: bytes, request_id: str | None, json_bytes: int | None = None, role: bytes | None = None
    ) -> Prediction:
        """Answer a V2 request, of which the first `json_bytes` are JSON where binary tensors follow.

        Raises:
            BadRequest: it does not fit the model.
        """
        start = time.perf_counter()
        content, binary = parse_v2(body, json_bytes)
        request_id = request_id_of(content.get("id")) or request_id_of(request_id) or new_request_id()
        wanted = self._wanted_outputs(content)
        outputs = self.answer(request_id, self.reader.v2(content, binary), start, len(body), role)
        described, tensors = list[dict[str, Any]](), list[bytes]()
        for name, as_binary in wanted.items():
            values = outputs[name]
            described.append(tensor := {"name": name, "shape": list(values.shape), "datatype": self._datatypes[name]})
            if as_binary:
                tensors.append(binary_tensor(values))
                tensor["parameters"] = {"binary_data_size": len(tensors[-1])}
            else:
                tensor["data"] = values.ravel().tolist()
        head = orjson.dumps(self._named(request_id) | {"outputs": described})
        return Prediction(request_id, b"".join([head, *tensors]), len(head) if tensors else None)

    def answer(
        self, request_id: str, inputs: dict[str, NDArray[Any]], start: float, size: int, role: bytes | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run the graph for a request of `size` bytes that came at `start` (of `time.perf_counter`), and record it."""
        outputs = self.onnx.predict(inputs)
        if role is None:  # else a roll-out asks
            self.asked, self.asked_at = self.asked + 1, start
        # Whoever asks the champion does not decide what is kept and counted
        given_by = (
            "champion" if not self.is_candidate else {REPLAY: "replay", MIRROR: "mirror"}.get(role or b"", "canary")
        )
        if given_by != "replay":
            self._record(self, request_id, given_by, time.perf_counter() - start, inputs, outputs, size)
        if given_by in ("champion", "canary"):
            observe_answers(self.name, outputs, self._classes)
        return outputs

    def _named(self, request_id: str) -> dict[str, Any]:
        return {"model_name": self.name, "model_version": self.served.version, "id": request_id}

    def _wanted_outputs(self, content: Mapping[str, Any]) -> dict[str, bool]:
        """The outputs that a V2 request asks for, and whether each is to be a binary tensor."""
        binary = _parameter(content, "binary_data_output")
        asked = content.get("outputs")
        if not asked and not isinstance(asked, dict):
            return dict.fromkeys(self.onnx.output_names, binary)
        if not isinstance(asked, list) or not all(isinstance(output, dict) for output in asked):
            raise BadRequest('"outputs" must be a list of objects with the name of an output')
        wanted = {str(output.get("name")): _parameter(output, "binary_data") or binary for output in asked}
        self.check_outputs(wanted)
        return wanted

    def check_outputs(self, names: Mapping[str, Any]) -> None:
        """Refuse a request for an output that the model does not have."""
        for name in names:
            if name not in self.onnx.output_names:
                raise BadRequest(f"there is no output {name[:63]}; there is {', '.join(self.onnx.output_names)}")

    @property
    def metadata(self) -> dict[str, Any]:
        """What the model takes and gives, in V2's words."""
        return {
            "name": self.name,
            "versions": [self.served.version],
            "platform": "onnxruntime_onnx",
            "inputs": [tensor._asdict() for tensor in self.inputs],
            "outputs": [tensor._asdict() for tensor in self.outputs],
        }

    @property
    def inputs(self) -> list[TensorDescription]:
        """The columns."""
        return [TensorDescription(column.name, column.datatype, [-1, 1]) for column in self.signature.inputs]

    @cached_property
    def logged_columns(self) -> list[InputColumn]:
        """The columns of which the inference log keeps something."""
        policy = self.served.log
        return [column for column in self.signature.inputs if policy and column.name not in policy.leave_out]

    @cached_property
    def outputs(self) -> list[TensorDescription]:
        """What the graph gives."""
        return [
            TensorDescription(o.name, GRAPH_DATATYPES[o.type], [n if isinstance(n, int) else -1 for n in o.shape])
            for o in self.onnx.session.get_outputs()
        ]


def _parameter(holder: Mapping[str, Any], name: str) -> bool:
    parameters = holder.get("parameters")
    return isinstance(parameters, dict) and parameters.get(name) is True
