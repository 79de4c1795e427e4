"""The InferenceService of a version, as it is applied."""

from __future__ import annotations

import pytest

from mlops_assets.serving.declaration import ServedVersion
from resources.serving.kserve_manifest import inference_service, service_name


@pytest.mark.parametrize(("model", "name"), [("iris", "iris"), ("flight_delay", "flight-delay")])
def test_a_service_has_a_name_that_kubernetes_takes(model: str, name: str) -> None:
    assert service_name(model) == name


def test_the_manifest_serves_one_version_from_the_lake() -> None:
    version = ServedVersion.of(3, "0123456789abcdef" * 4)
    service = inference_service("flight-delay", "flight_delay", version, "s3://lake/served/flight_delay/3", "image:1")
    assert service["metadata"] == {
        "name": "flight-delay",
        "labels": {"mlops.dev/model": "flight_delay"},
        "annotations": {
            "serving.kserve.io/deploymentMode": "Standard",
            "mlops.dev/version": "3",
            "mlops.dev/sha256": version.sha256,
            "mlops.dev/artifact": "s3://lake/served/flight_delay/3",
        },
    }
    predictor = service["spec"]["predictor"]
    assert predictor["labels"] == {"mlops.dev/model": "flight_delay", "mlops.dev/stage": "serving"}
    [container] = predictor["containers"]
    assert container["image"] == "image:1"
    assert container["args"][:6] == ["--models", "/tmp/models", "--port", "8080", "--host", "0.0.0.0"]
    assert dict(zip(container["args"][6::2], container["args"][7::2], strict=True)) == {
        "--fetch": "s3://lake/served/flight_delay/3",
        "--model": "flight_delay",
        "--model-version": "3",
        "--sha256": version.sha256,
    }
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/models/flight_delay/ready"
    assert container["securityContext"]["readOnlyRootFilesystem"]
