"""A model in the server: an artifact that is checked before it is loaded, and answers its golden rows before others."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import orjson

from mlops_assets.ml.errors import ArtifactError, BadRequest
from mlops_assets.ml.inference.artifact import V2_DATATYPES, load_artifact
from mlops_assets.ml.inference.onnx_model import OnnxModel, largest_difference
from mlops_assets.serving.inference_protocol import decode_v1, decode_v2, parse_json
from mlops_assets.serving.kserve_patch import Model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from mlops_assets.serving.declaration import ServedVersion


class Predictor(Model):
    """One version of one model.

    Raises:
        ArtifactError: the files are refused, or the golden rows are answered differently than in training.
    """

    def __init__(self, name: str, served: ServedVersion, folder: Path) -> None:
        super().__init__(name)
        self.served = served
        graph, self.signature = load_artifact(folder, served.sha256)
        self.onnx = OnnxModel(graph)
        self._verify_golden_rows()
        self.ready = True

    def _verify_golden_rows(self) -> None:
        """Answer the golden rows; a model that answers them differently than it did in training never gets ready."""
        golden = self.signature.golden
        rows = {"instances": [dict(row) for row in golden.rows]}
        try:
            inputs = decode_v1(rows, self.signature.inputs)
        except BadRequest as error:
            raise ArtifactError(f"the golden rows do not fit the model's own inputs: {error}") from error
        outputs = {name: values.tolist() for name, values in self.onnx.predict(inputs).items()}
        difference, allowed = largest_difference(golden.outputs, outputs), self.signature.allowed_difference
        if not difference <= allowed:
            raise ArtifactError(
                f"version {self.served.version} answers its golden rows differently than in training: "
                f"by {difference:.3g}, allowed {allowed:.3g}; refused"
            )

    def decode_request(self, body: bytes, protocol: str) -> tuple[dict[str, NDArray[Any]], str]:
        """The columns of a V1 or V2 request, an array (n, 1) each, and its id (one of ours where it has none).

        Raises:
            BadRequest: it does not fit the model.
        """
        content = parse_json(body)
        decode = decode_v2 if protocol == "v2" else decode_v1
        request_id = content.get("id")
        return decode(content, self.signature.inputs), request_id if isinstance(request_id, str) else uuid.uuid4().hex

    def encode_response(self, outputs: dict[str, NDArray[Any]], request_id: str, protocol: str) -> bytes:
        """The graph's outputs for n rows, as the JSON of a V1 or V2 response."""
        response: dict[str, Any] = {"model_name": self.name, "model_version": self.served.version, "id": request_id}
        if protocol == "v2":
            response["outputs"] = [
                {
                    "name": name,
                    "shape": list(values.shape),
                    "datatype": V2_DATATYPES[values.dtype.name],
                    "data": values.ravel().tolist(),
                }
                for name, values in outputs.items()
            ]
        elif "prediction" in outputs:
            response["predictions"] = outputs["prediction"][:, 0].tolist()
        else:
            pairs = zip(outputs["label"].tolist(), outputs["probabilities"].tolist(), strict=True)
            response["predictions"] = [{"label": label, "probabilities": row} for label, row in pairs]
        return orjson.dumps(response)

    def get_input_types(self) -> list[dict[str, Any]]:
        """The columns, for the protocol's model metadata."""
        return [{"name": c.name, "datatype": c.datatype, "shape": [-1, 1]} for c in self.signature.inputs]

    def get_output_types(self) -> list[dict[str, Any]]:
        """The outputs, for the protocol's model metadata."""
        kinds = {
            "tensor(float)": "FP32",
            "tensor(double)": "FP64",
            "tensor(int64)": "INT64",
            "tensor(string)": "BYTES",
        }
        return [
            {"name": o.name, "datatype": kinds[o.type], "shape": [n if isinstance(n, int) else -1 for n in o.shape]}
            for o in self.onnx.session.get_outputs()
        ]
