"""The anchor of MLServer: the same ONNX graph as a runtime of it; it runs in an environment of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceResponse


class OnnxRuntime(MLModel):
    """Feeds what it gets to onnxruntime."""

    async def load(self) -> bool:
        """Open the graph that the settings name."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(self.settings.parameters.uri, options)
        return True

    async def predict(self, payload: Any) -> Any:
        """Answer a V2 request."""
        arrays = {
            item.name: np.array(StringCodec.decode_input(item), dtype=object).reshape(-1, 1)
            if item.datatype == "BYTES"
            else NumpyCodec.decode_input(item)
            for item in payload.inputs
        }
        [scores] = self.session.run(["probabilities"], arrays)
        return InferenceResponse(model_name="bench", outputs=[NumpyCodec.encode_output("probabilities", scores)])
