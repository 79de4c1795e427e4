"""A model in the server: its ONNX graph, verified before it is loaded and proved before it answers."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import orjson
from kserve import Model

from mlops_assets.ml.errors import ArtifactError, BadRequest
from mlops_assets.ml.inference.artifact import V2_DATATYPES, load_artifact
from mlops_assets.ml.inference.onnx_model import OnnxModel, largest_difference
from mlops_assets.serving.inference_protocol import parse, read_v1, read_v2

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

OPTIONS = orjson.OPT_SERIALIZE_NUMPY


class Predictor(Model):
    """One version of one model."""

    def __init__(self, name: str, version: str, folder: Path, sha256: str) -> None:
        super().__init__(name)
        self.version = version
        graph, self.signature = load_artifact(folder, sha256)
        self.onnx = OnnxModel(graph)
        self._verify_golden_rows()
        self.ready = True

    def _verify_golden_rows(self) -> None:
        """Answer the golden rows; a model that answers them differently than it did in training never gets ready."""
        golden = self.signature.golden
        rows = {"instances": [dict(row) for row in golden.rows]}
        try:
            arrays = read_v1(rows, self.signature.inputs)
        except BadRequest as error:
            raise ArtifactError(f"The golden rows do not fit the model's own inputs: {error}; refused.") from error
        found = {name: values.tolist() for name, values in self.onnx.predict(arrays).items()}
        difference = largest_difference(golden.outputs, found)
        if not difference <= self.signature.allowed_difference:
            raise ArtifactError(
                f"Version {self.version} answers its golden rows differently than in training: by {difference:.3g}, "
                f"allowed {self.signature.allowed_difference:.3g}; refused."
            )

    def decode_request(self, body: bytes, protocol: str) -> tuple[dict[str, NDArray[Any]], str]:
        """Columns and id of a request.

        Raises:
            BadRequest: it does not fit the model.
        """
        content = parse(body)
        read = read_v2 if protocol == "v2" else read_v1
        identity = content.get("id")
        return read(content, self.signature.inputs), identity if isinstance(identity, str) else uuid.uuid4().hex

    def encode_response(self, outputs: dict[str, NDArray[Any]], identity: str, protocol: str) -> bytes:
        """The answer to a request."""
        answer: dict[str, Any] = {"model_name": self.name, "model_version": self.version, "id": identity}
        if protocol == "v2":
            answer["outputs"] = [
                {
                    "name": name,
                    "shape": list(values.shape),
                    "datatype": V2_DATATYPES[values.dtype.name],
                    "data": values.ravel().tolist(),
                }
                for name, values in outputs.items()
            ]
        elif "prediction" in outputs:
            answer["predictions"] = outputs["prediction"][:, 0].tolist()
        else:
            pairs = zip(outputs["label"].tolist(), outputs["probabilities"].tolist(), strict=True)
            answer["predictions"] = [{"label": label, "probabilities": probabilities} for label, probabilities in pairs]
        return orjson.dumps(answer, option=OPTIONS)

    def get_input_types(self) -> list[dict[str, Any]]:
        """The columns, for the protocol's model metadata."""
        return [{"name": c.name, "datatype": c.datatype, "shape": [-1, 1]} for c in self.signature.inputs]

    def get_output_types(self) -> list[dict[str, Any]]:
        """The outputs, for the protocol's model metadata."""
        kinds = {"tensor(float)": "FP32", "tensor(int64)": "INT64", "tensor(string)": "BYTES"}
        return [
            {"name": o.name, "datatype": kinds[o.type], "shape": [n if isinstance(n, int) else -1 for n in o.shape]}
            for o in self.onnx.session.get_outputs()
        ]
