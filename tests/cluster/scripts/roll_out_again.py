"""Roll the served model out as the next version, proved on live requests; print each step, and the refusal if any."""

import sys
import tempfile
from pathlib import Path

from mlops_assets.definitions import defs
from mlops_assets.ml.errors import DeploymentError
from mlops_assets.serving.log_policy import InferenceLogPolicy
from mlops_assets.serving.rollout_policy import RolloutPolicy
from resources.environment import Environment
from resources.serving.live_traffic import LiveTraffic

model, version, canary_requests = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
serving = defs.resources["serving"]
lake = Environment.read().lake()
served = serving.current(model)
artifact = Path(tempfile.mkdtemp())
for name in ("model.onnx", "model.json"):
    (artifact / name).write_bytes(lake.store.read(f"served/{model}/{served.folder}/{name}"))
policy = RolloutPolicy.model_validate(
    {
        "shadow_percent": 50,
        "shadow_requests": 100,
        "canary_percent": 30,
        "canary_requests": canary_requests,
        # New pods start on the cores that answer, and what is rolled out is as fast as what is there
        "max_latency_ratio": 8,
        "deadline": "10s",
        "patience": "5m",
        "bake": "10s",
        "too_little_traffic": "refuse",
    }
)


def say(step):
    print(f"reached {step.state}: {step.found}", flush=True)


try:
    live = LiveTraffic(lake.store, model, policy, lambda: None)
    serving.deploy(model, artifact, served.sha256, version, InferenceLogPolicy(), live, say)
except DeploymentError as refusal:
    print(refusal)
