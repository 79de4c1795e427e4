"""The network that ships."""

from __future__ import annotations

import numpy as np
import onnxruntime
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=15)
@given(
    hidden=st.lists(st.integers(1, 32), min_size=0, max_size=3),
    width=st.integers(1, 12),
    outputs=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_any_mlp_exports_to_a_graph_that_equals_torch(hidden: list[int], width: int, outputs: int, seed: int) -> None:
    import torch

    from mlops_assets.ml.networks import MLP

    torch.manual_seed(seed)
    network = MLP(width, outputs, hidden, dropout=0.3).eval()
    program = torch.onnx.export(
        network,
        (torch.zeros(2, width),),
        dynamo=True,
        input_names=["features"],
        output_names=["scores"],
        dynamic_shapes=({0: torch.export.Dim("rows")},),
        verbose=False,
    )
    assert program is not None
    x = torch.randn(7, width)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    [found] = session.run(["scores"], {"features": x.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(found, network(x).numpy(), atol=1e-5)
