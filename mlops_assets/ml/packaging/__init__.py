"""From a trained model to ONE ONNX graph, the artifact."""
