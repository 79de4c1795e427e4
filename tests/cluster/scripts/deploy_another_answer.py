"""Try to deploy the served model as version 2, with golden rows that it does not answer; print the refusal."""

import json
import sys
import tempfile
from pathlib import Path

from mlops_assets.definitions import defs
from mlops_assets.ml.errors import DeploymentError
from resources.environment import Environment

model = sys.argv[1]
serving = defs.resources["serving"]
store = Environment.read().lake().store
served = serving.current(model)
prefix = f"served/{model}/{served['version']}-{served['sha256'][:12]}"
artifact = Path(tempfile.mkdtemp())
(artifact / "model.onnx").write_bytes(store.read(f"{prefix}/model.onnx"))

signature = json.loads(store.read(f"{prefix}/model.json"))
outputs = signature["golden"]["outputs"]
outputs["probabilities"] = [row[::-1] for row in outputs["probabilities"]]
(artifact / "model.json").write_text(json.dumps(signature))

try:
    serving.roll_out(model, artifact, served["sha256"], 2)
except DeploymentError as refusal:
    print(refusal)
