"""k8s/overlays: changed settings roll what reads them, programs find theirs by plain names, environments are alike."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from mlops_assets.serving.declaration import ServedVersion
from resources.serving.kserve_manifest import inference_service
from tests.manifests import OVERLAYS, PROJECT, named, needs_kubectl, of_kind, rendered

pytestmark = needs_kubectl
WITH_DIGEST = re.compile(r"-[bcdfghkmt2456789]{10}$")
# Made by hand, of a file of Amazon's
CERTIFICATES = "database-ca"
REFERENCE = re.compile(r"^(configMapRef|configMapKeyRef|configMap)$")


def config_maps(node: Any) -> set[str]:
    """Names of the ConfigMaps that a pod uses."""
    if isinstance(node, list):
        return {name for item in node for name in config_maps(item)}
    if not isinstance(node, dict):
        return set()
    found = {value["name"] for key, value in node.items() if REFERENCE.match(key)} - {CERTIFICATES}
    return found.union(*(config_maps(value) for value in node.values()))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_was_scaled_to_nothing_comes_back_when_it_is_applied(overlay: str) -> None:
    """Restoring a backup and a new MLflow do so; a number that is not written stays as it is."""
    workloads = of_kind(rendered(overlay), "Deployment", "StatefulSet")
    assert [item["metadata"]["name"] for item in workloads if item["spec"].get("replicas", 0) < 1] == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_two_exporters_tell_of_the_same_models_in_a_roll_out(overlay: str) -> None:
    """Prometheus joins their figures by model, and refuses a rule that finds two."""
    exporter = named(rendered(overlay), "Deployment", "exporter")["spec"]
    assert (exporter["replicas"], exporter["strategy"]) == (1, {"type": "Recreate"})


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_change_of_settings_rolls_every_pod_that_reads_them(overlay: str) -> None:
    objects = rendered(overlay)
    made = {item["metadata"]["name"] for item in of_kind(objects, "ConfigMap")}
    for item in of_kind(objects, "Deployment", "StatefulSet"):
        used = config_maps(item["spec"]["template"]["spec"])
        assert used <= made, item["metadata"]["name"]
        assert [name for name in used if not WITH_DIGEST.search(name)] == [], item["metadata"]["name"]


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize(
    ("plain", "copy"), [("mlops-environment", "platform-environment"), ("dagster-instance", "platform-instance")]
)
def test_runs_have_the_settings_of_the_platform(overlay: str, plain: str, copy: str) -> None:
    objects = rendered(overlay)
    [same] = [item for item in of_kind(objects, "ConfigMap") if item["metadata"]["name"].startswith(f"{copy}-")]
    assert named(objects, "ConfigMap", plain)["data"] == same["data"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_run_keeps_the_images_of_its_code_location(overlay: str) -> None:
    [code] = named(rendered(overlay), "Deployment", "dagster-code")["spec"]["template"]["spec"]["containers"]
    variables = [variable for variable in code["env"] if "value" in variable]
    images = {variable["name"]: variable["value"] for variable in variables}
    registry, _, tag = code["image"].rpartition("/mlops-platform:")
    assert images["DAGSTER_CURRENT_IMAGE"] == f"{registry}/mlops-platform:{tag}"
    assert images["MLOPS_TRAINER_IMAGE"] == f"{registry}/mlops-trainer:{tag}"
    context = json.loads(images["DAGSTER_CONTAINER_CONTEXT"])
    assert "MLOPS_TRAINER_IMAGE=$(MLOPS_TRAINER_IMAGE)" in context["k8s"]["env_vars"]
    # Kubernetes fills in what stands before it
    names = [variable["name"] for variable in variables]
    assert names.index("MLOPS_TRAINER_IMAGE") < names.index("DAGSTER_CONTAINER_CONTEXT")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_programs_find_their_settings_by_name(overlay: str) -> None:
    instance = yaml.safe_load((PROJECT / "k8s/base/dagster/dagster.yaml").read_text())["run_launcher"]["config"]
    volumes = {volume["config_map"]["name"] for volume in instance["volumes"] if "config_map" in volume} - {
        CERTIFICATES
    }
    predictor = inference_service(
        "iris", "iris", ServedVersion.of(1, "0" * 64), "s3://bucket/prefix", "image", size=1, replicas=1
    )
    needed = {*volumes, *instance["env_config_maps"], instance["instance_config_map"], *config_maps(predictor)}
    made = {item["metadata"]["name"] for item in of_kind(rendered(overlay), "ConfigMap")}
    assert needed <= made


def test_staging_is_production_but_for_its_database_and_its_size() -> None:
    def objects(overlay: str) -> dict[str, Any]:
        text = json.dumps(rendered(overlay)).replace(f"mlops-{overlay}", "mlops")
        text = text.replace(f'"environment": "{overlay}"', '"environment": "-"')
        return {
            f"{item['kind']} {WITH_DIGEST.sub('', item['metadata']['name'])}": re.sub(
                r"(platform-environment)-\w{10}", r"\1", json.dumps(item)
            )
            for item in json.loads(text)
        }

    staging, production = objects("staging"), objects("production")
    assert staging.keys() - production.keys() == {
        *("StatefulSet postgres", "Service postgres", "ConfigMap postgres-init", "ExternalSecret postgres"),
        *("NetworkPolicy postgres", "NetworkPolicy postgres-clients"),
    }
    assert production.keys() - staging.keys() == {"NetworkPolicy aurora-clients"}
    different = {name for name in staging.keys() & production.keys() if staging[name] != production[name]}
    assert different == {
        *("ConfigMap mlops-environment", "ConfigMap platform-environment"),
        *("NodePool gpu", "ResourceQuota mlops"),
    }


@pytest.mark.parametrize("overlay", ["staging", "production"])
def test_all_values_of_an_environment_stand_in_one_file(overlay: str) -> None:
    """Nothing that the overlay deploys has what the bases stand for, and what is in the file arrives."""
    folder = PROJECT / "k8s" / "overlays" / overlay
    settings = yaml.safe_load((folder / "settings.yaml").read_text())["spec"]
    text = json.dumps(rendered(overlay))
    assert "Settings" not in {item["kind"] for item in rendered(overlay)}
    for value in (settings["bucket"], settings["ami"], settings["secrets"], *settings["role_arns"].values()):
        assert f"{value}" in text
    for placeholder in (
        "s3://mlops/",
        '"role": "mlops-node"',
        "subnet-00000000000000000",
        '"prefix": "mlops/"',
        "@latest",
    ):
        assert placeholder not in text
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert kustomization.keys() == {"apiVersion", "kind", "namespace", "resources", "components", "images"}


def test_clients_check_the_certificate_of_a_database_beyond_the_cluster() -> None:
    """Every container that speaks to it has the file that libpq is told of."""
    objects = rendered("production")
    settings = named(objects, "ConfigMap", "mlops-environment")["data"]
    assert settings["PGSSLMODE"] == "verify-full"
    folder, _, _ = settings["PGSSLROOTCERT"].rpartition("/")
    instance = yaml.safe_load((PROJECT / "k8s/base/dagster/dagster.yaml").read_text())["run_launcher"]["config"]
    assert {"name": "database-ca", "mount_path": folder} in instance["volume_mounts"]
    for item in of_kind(objects, "Deployment"):
        template = item["spec"]["template"]
        assert template["metadata"]["labels"]["mlops.dev/uses-postgres"] == "true", item["metadata"]["name"]
        for container in [*template["spec"]["containers"], *template["spec"].get("initContainers", [])]:
            assert {"name": "database-ca", "mountPath": folder} in container["volumeMounts"], item["metadata"]["name"]
