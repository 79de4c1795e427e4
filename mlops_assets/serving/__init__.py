"""What runs inside a predictor: the model server. Never imports Dagster.

The way of a prediction request:

1. `model_server.main` has loaded what the files declare (`model_repository.Repository.load_all`), each version as a
   `predictor.Predictor`, and started KServe's server with our routes in front (`kserve_patch.create_server`).
2. `routes.PredictionRoutes` matches the path, and `routes.PredictionRoutes.predict` finds the model. All other paths
   are KServe's.
3. `routes.read_body` reads the body, and `routes.response_to` makes the response of it:
4. `predictor.Predictor.decode_request` parses the JSON (`inference_protocol.parse_json`) and checks it against the
   model's signature (`inference_protocol.decode_v1`, `inference_protocol.decode_v2`). What does not fit ends here.
5. `mlops_assets.ml.inference.onnx_model.OnnxModel.predict` runs the graph.
6. `predictor.Predictor.encode_response` makes JSON of its outputs, and `routes.send_bytes` sends it.
"""
