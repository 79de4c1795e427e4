"""Try to deploy the served model as version 2, with golden rows that it does not answer; print the refusal."""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

from onnx import helper, load

from mlops_assets.definitions import defs
from mlops_assets.ml.errors import DeploymentError
from mlops_assets.ml.inference.artifact import DESCRIPTION, description_digest
from resources.environment import Environment

model = sys.argv[1]
serving = defs.resources["serving"]
store = Environment.read().lake().store
served = serving.current(model)
prefix = f"served/{model}/{served.folder}"
artifact = Path(tempfile.mkdtemp())
(artifact / "model.onnx").write_bytes(store.read(f"{prefix}/model.onnx"))

signature = json.loads(store.read(f"{prefix}/model.json"))
outputs = signature["golden"]["outputs"]
outputs["probabilities"] = [row[::-1] for row in outputs["probabilities"]]
graph = load(artifact / "model.onnx")
del graph.metadata_props[:]
helper.set_model_props(graph, {DESCRIPTION: description_digest(json.dumps(signature))})
content = graph.SerializeToString()
(artifact / "model.onnx").write_bytes(content)
signature["sha256"] = hashlib.sha256(content).hexdigest()
(artifact / "model.json").write_text(json.dumps(signature))

try:
    serving.deploy(model, artifact, signature["sha256"], 2)
except DeploymentError as refusal:
    print(refusal)
