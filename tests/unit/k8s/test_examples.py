"""k8s/examples: what KServe's CRD takes, what nodes and policies allow, and the iris example as processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from mlflow.artifacts import download_artifacts

from resources.kubernetes import labels
from tests.crds import problems
from tests.manifests import PROJECT, named, needs_kubectl, of_kind
from tests.support import free_port, post, wait_until

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = PROJECT / "k8s" / "examples"
CHART = PROJECT.parent / "shared" / "charts" / "kserve-runtime-configs" / "values.yaml"
# As sklearnserver does it (kserve/python/sklearnserver): the one file of a format it knows, and KServe's own reading
SKLEARN_RUNTIME = """
    import pathlib, sys
    import joblib
    from kserve import Model, ModelServer
    from kserve.utils.utils import get_predict_input, get_predict_response

    class SKLearnModel(Model):
        def load(self, folder):
            [file] = [path for path in pathlib.Path(folder).iterdir() if path.suffix in (".joblib", ".pkl", ".pickle")]
            self.model, self.ready = joblib.load(file), True

        def predict(self, payload, headers=None, response_headers=None):
            return get_predict_response(payload, self.model.predict(get_predict_input(payload)), self.name)

    model = SKLearnModel("iris-sklearn")
    model.load(sys.argv[1])
    ModelServer(http_port=int(sys.argv[2]), enable_grpc=False).start([model])
"""


def example(name: str) -> list[dict[str, Any]]:
    answer = subprocess.run(["kubectl", "kustomize", str(EXAMPLES / name)], text=True, capture_output=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return [item for item in yaml.safe_load_all(answer.stdout) if item]


def service(name: str) -> dict[str, Any]:
    [found] = of_kind(example(name), "InferenceService")
    return found


@needs_kubectl
@pytest.mark.parametrize("name", ["iris", "text", "knative"])
def test_the_crd_takes_every_field(name: str) -> None:
    assert problems(service(name)) == []


@needs_kubectl
@pytest.mark.parametrize("name", ["iris", "text", "knative"])
def test_the_runtime_is_one_of_kserves_own(name: str) -> None:
    if not CHART.is_file():
        pytest.skip(f"no chart of KServe's runtimes at {CHART}")
    runtimes = yaml.safe_load(CHART.read_text())["kserve"]["servingruntime"]
    runtime = service(name)["spec"]["predictor"]["model"]["runtime"].removeprefix("kserve-")
    context = runtimes[runtime]["securityContext"]
    # With the context of the pod, which has the rest, that is the Pod Security Standard `restricted`
    assert (context["allowPrivilegeEscalation"], context["capabilities"]["drop"]) == (False, ["ALL"])


@needs_kubectl
@pytest.mark.parametrize("name", ["iris", "text", "knative"])
def test_every_part_keeps_the_restricted_standard_and_has_what_the_quota_asks_for(name: str) -> None:
    for part in service(name)["spec"].values():
        context = part["securityContext"]
        assert (context["runAsNonRoot"], context["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
        assert part["automountServiceAccountToken"] is False
        for container in part.get("containers", [part.get("model")]):
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


@needs_kubectl
def test_the_model_on_demand_goes_down_to_no_pod_in_the_mode_that_can_wake_one() -> None:
    found = service("knative")
    assert found["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Knative"
    predictor = found["spec"]["predictor"]
    assert predictor["minReplicas"] == 0 < predictor["maxReplicas"]
    assert predictor["scaleMetric"] == "concurrency"
    assert "deploymentStrategy" not in predictor, "Knative has no Deployment of KServe's"


@needs_kubectl
def test_the_text_model_gets_a_gpu_on_a_node_that_has_one() -> None:
    predictor = service("text")["spec"]["predictor"]
    resources = predictor["model"]["resources"]
    assert resources["requests"][labels.GPU] == resources["limits"][labels.GPU] == "1"
    [pool] = yaml.safe_load_all((PROJECT / "k8s/base/karpenter/gpu.yaml").read_text())
    template = pool["spec"]["template"]
    assert predictor["nodeSelector"].items() <= template["metadata"]["labels"].items()
    tolerated = {(item["key"], item["effect"]) for item in predictor["tolerations"]}
    assert {(taint["key"], taint["effect"]) for taint in template["spec"]["taints"]} <= tolerated


@needs_kubectl
def test_the_transformer_may_ask_its_predictor_and_has_its_program() -> None:
    found = example("iris")
    transformer = service("iris")["spec"]["transformer"]
    [volume] = [item["configMap"]["name"] for item in transformer["volumes"] if "configMap" in item]
    assert named(found, "ConfigMap", volume)["data"]["transformer.py"] == (EXAMPLES / "iris/transformer.py").read_text()
    policies = {item["metadata"]["name"]: item["spec"] for item in of_kind(found, "NetworkPolicy")}
    asks, answers = policies["iris-sklearn-transformer"], policies["iris-sklearn-predictor"]
    assert asks["egress"][0]["to"] == [{"podSelector": answers["podSelector"]}]
    assert answers["ingress"][0]["from"] == [{"podSelector": asks["podSelector"]}]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.mark.long
@needs_kubectl
def test_named_rows_go_through_the_transformer_to_the_pickle_in_mlflow(mlflow_uri: str, tmp_path: Path) -> None:
    trained = subprocess.run(
        [sys.executable, str(EXAMPLES / "iris/train.py")],
        env=os.environ | {"MLFLOW_TRACKING_URI": mlflow_uri},
        capture_output=True,
        text=True,
        check=False,
    )
    assert trained.returncode == 0, trained.stderr
    # As KServe's storage initializer does it; in production the address is one of S3
    address = trained.stdout.splitlines()[-1]
    artifact = download_artifacts(artifact_uri=address, dst_path=str(tmp_path), tracking_uri=mlflow_uri)
    transformer = service("iris")["spec"]["transformer"]["containers"][0]
    (tmp_path / "runtime.py").write_text(textwrap.dedent(SKLEARN_RUNTIME))
    runtime_port, port = free_port(), free_port()
    program = [
        str(EXAMPLES / "iris/transformer.py") if "transformer.py" in part else part for part in transformer["command"]
    ]
    # What KServe adds to the arguments of a transformer
    added = ["--model_name", "iris-sklearn", "--predictor_host", f"127.0.0.1:{runtime_port}", "--http_port", str(port)]
    processes = [
        subprocess.Popen([sys.executable, str(tmp_path / "runtime.py"), artifact, str(runtime_port)]),
        subprocess.Popen([sys.executable, *program[1:], *transformer["args"], *added]),
    ]
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{runtime_port}/v1/models/iris-sklearn"), 60)
        wait_until(lambda: answers(url + transformer["readinessProbe"]["httpGet"]["path"]), 60)
        flowers = [
            {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2},
            {"sepal_length": 6.7, "sepal_width": 3.0, "petal_length": 5.2, "petal_width": 2.3},
        ]
        code, answer = post(f"{url}/v1/models/iris-sklearn:predict", {"instances": flowers})
        assert (code, answer) == (200, {"predictions": ["setosa", "virginica"]})
        code, answer = post(f"{url}/v1/models/iris-sklearn:predict", {"instances": [{"sepal_length": "long"}]})
        assert (code, "a row must have the numbers sepal_length" in answer["error"]) == (400, True)
    finally:
        for process in processes:
            process.terminate()
            process.wait(30)
