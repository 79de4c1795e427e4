"""Grafana's dashboards: they are what panels.py says, and each query gives data of the metrics that there are."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from k8s.dashboards import DASHBOARDS, FOLDER, text
from mlops_assets.exporter.figures import EXPORTER_METRICS, METRICS
from tests import promtool
from tests.manifests import named, needs_kubectl, rendered

if TYPE_CHECKING:
    from pathlib import Path

NAMESPACE = 'namespace="mlops-production"'
VALUES = {"model": "iris", "state": "promoted", "check": "gate", "stage": "evaluation", "metric": "accuracy"}
POD = f'{NAMESPACE},pod="a",node="n1"'
OF_MODEL = 'label_mlops_dev_model="iris",label_mlops_dev_stage="trained_model",label_mlops_dev_owner="risk"'
POOL = 'label_karpenter_sh_nodepool="gpu",label_mlops_dev_pool="gpu"'
TYPE = 'label_node_kubernetes_io_instance_type="g5",label_karpenter_sh_capacity_type="spot"'
PLACE = f'{POOL},{TYPE},label_topology_kubernetes_io_zone="z"'
OFFERING = 'instance_type="g5",capacity_type="spot",zone="z"'
OTHERS = {
    f'model_requests_total{{{NAMESPACE},model="iris",code="200"}}': "0+60x90",
    f'model_requests_total{{{NAMESPACE},model="iris",code="500"}}': "0+1x90",
    f'model_request_duration_seconds_bucket{{{NAMESPACE},model="iris",le="0.1"}}': "0+60x90",
    f'model_request_duration_seconds_bucket{{{NAMESPACE},model="iris",le="+Inf"}}': "0+61x90",
    f'model_answers_total{{{NAMESPACE},model="iris",label="virginica"}}': "0+60x90",
    f'model_answer_score_bucket{{{NAMESPACE},model="iris",le="0.9"}}': "0+20x90",
    f'model_answer_score_bucket{{{NAMESPACE},model="iris",le="+Inf"}}': "0+60x90",
    f'model_inference_log_stored_total{{{NAMESPACE},model="iris"}}': "0+60x90",
    f'kube_deployment_status_replicas_available{{{NAMESPACE},deployment="mlflow"}}': "2x90",
    f'kube_pod_status_phase{{{NAMESPACE},pod="a",phase="Running"}}': "1x90",
    f'kube_pod_status_phase{{{NAMESPACE},pod="a",phase="Pending"}}': "0x90",
    f'kube_pod_labels{{{NAMESPACE},pod="a",{OF_MODEL}}}': "1x90",
    f'kube_pod_container_resource_requests{{{POD},resource="cpu"}}': "3x90",
    f'kube_node_labels{{node="n1",{PLACE}}}': "1x90",
    'kube_node_status_capacity{node="n1",resource="nvidia_com_gpu"}': "1x90",
    f"karpenter_cloudprovider_instance_type_offering_price_estimate{{{OFFERING}}}": "2x90",
    f'DCGM_FI_DEV_GPU_UTIL{{{NAMESPACE},pod="a",gpu="0"}}': "50x90",
}


def series() -> dict[str, str]:
    """One of each metric that the exporter can give, and those of others."""
    found = dict(OTHERS)
    for name, described in (METRICS | EXPORTER_METRICS).items():
        labels = ",".join([NAMESPACE, *(f'{label}="{VALUES.get(label, "x")}"' for label in described.labels)])
        values = "1+0x40 2+0x49" if name == "model_champion_version" else "1+1x90"
        found[f"{name}{{{labels}}}"] = values
    return found


def documents() -> list[Any]:
    return [json.loads((FOLDER / f"{name}.json").read_text()) for name in DASHBOARDS]


def queries() -> list[str]:
    """Of panels, with what is chosen at the top filled in."""
    found = [target["expr"] for document in documents() for panel in document["panels"] for target in panel["targets"]]
    return [query.replace("$namespace", "mlops-production").replace("$model", "iris") for query in found]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_file_is_what_the_panels_say(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text() == text(DASHBOARDS[name]), "run `make schema`"


def test_every_query_gives_data(tmp_path: Path) -> None:
    asked = sorted(set(queries()))
    assert len(asked) > 35
    assert promtool.queries_without_data(tmp_path, asked, series(), "80m") == []


def test_a_query_of_a_metric_that_nobody_gives_is_found_out(tmp_path: Path) -> None:
    asked = ["model_drift_score", "model_made_up", 'model_info{model="other"}']
    assert promtool.queries_without_data(tmp_path, asked, series(), "10m") == asked[1:]


def test_a_new_champion_is_marked_when_it_comes(tmp_path: Path) -> None:
    [mark] = [mark["expr"] for document in documents() for mark in document["annotations"]["list"]]
    query = mark.replace("$namespace", "mlops-production").replace("$model", "iris")
    assert promtool.queries_without_data(tmp_path, [query], series(), "41m") == []
    assert promtool.queries_without_data(tmp_path, [query], series(), "60m") == [query]


def test_every_panel_has_unit_legend_and_description() -> None:
    panels = [panel for document in documents() for panel in document["panels"]]
    for panel in panels:
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]
    places = [json.dumps(panel["gridPos"]) for panel in documents()[0]["panels"]]
    assert len(set(places)) == len(places)


def test_what_is_chosen_at_the_top_is_listed_by_a_metric_that_there_is() -> None:
    lists = [variable["query"] for document in documents() for variable in document["templating"]["list"]]
    named_metrics = {match[1] for query in lists if (match := re.match(r"label_values\((\w+)", query))}
    assert named_metrics <= METRICS.keys()
    assert len({document["uid"] for document in documents()}) == len(DASHBOARDS)


@needs_kubectl
@pytest.mark.parametrize("overlay", ["staging", "production"])
def test_grafanas_sidecar_finds_them_by_its_label(overlay: str) -> None:
    found = named(rendered(overlay), "ConfigMap", "mlops-dashboards")
    assert found["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert set(found["data"]) == {f"{name}.json" for name in DASHBOARDS}
    # A ConfigMap holds one MiB
    assert sum(map(len, found["data"].values())) < 500_000
