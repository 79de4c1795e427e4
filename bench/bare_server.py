"""The anchor of serving: the shortest kserve.Model around the same ONNX graph, with no checks at all."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

arguments = sys.argv[1:]
sys.argv = sys.argv[:1]

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer  # noqa: E402


class Bare(Model):
    """Feeds what it gets to onnxruntime."""

    def __init__(self, graph: Path) -> None:
        super().__init__("bench")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(graph.read_bytes(), options)
        self.kinds = {item.name: object if "string" in item.type else np.float32 for item in self.session.get_inputs()}
        self.ready = True

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        if isinstance(payload, InferRequest):
            # Texts are bytes over gRPC
            values = {item.name: [v.decode() if type(v) is bytes else v for v in item.data] for item in payload.inputs}
            arrays = {name: np.array(found, dtype=self.kinds[name]).reshape(-1, 1) for name, found in values.items()}
            [scores] = self.session.run(["probabilities"], arrays)
            output = InferOutput("probabilities", list(scores.shape), "FP32", scores.ravel().tolist())
            return InferResponse(payload.id or "", "bench", [output])
        rows = payload["instances"]
        arrays = {name: np.array([[row[name]] for row in rows], dtype=kind) for name, kind in self.kinds.items()}
        [scores] = self.session.run(["probabilities"], arrays)
        return {"predictions": scores.tolist()}


if __name__ == "__main__":
    ModelServer(http_port=int(arguments[1]), grpc_port=int(arguments[2])).start([Bare(Path(arguments[0]))])
