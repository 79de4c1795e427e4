"""What runs inside a predictor: the model server. Never imports Dagster.

The way of a prediction request:

1. `model_server.main` has loaded what the files declare (`model_repository.Repository.load_all`), each version as a
   `predictor.Predictor`, and started `http_server.Server` with the routes (`routes.Routes`).
2. `routes.Routes` matches the path, and `prediction_route.PredictionRoute` finds the model and reads the body.
3. `predictor.Predictor.predict_v1` or `predictor.Predictor.predict_v2` parses the JSON
   (`inference_protocol.parse_json`), and the model's reader checks it against the signature
   (`inference_protocol.RequestReader.v1`, `inference_protocol.RequestReader.v2`). What does not fit ends here.
4. `mlops_assets.ml.inference.onnx_model.OnnxModel.predict` runs the graph.
5. The predictor makes a `predictor.Prediction` of its outputs, and `routes.Routes` sends it.

Over gRPC it is `grpc_server.Inference`, and `grpc_server.infer` in the place of 3 to 5. While a model shares its
requests with a candidate, each goes through `prediction_route.predict_shared`, as a request over HTTP: what is packed
is unpacked before, and a message is told as one (`grpc_messages.as_http`, `grpc_messages.as_message`).
"""
