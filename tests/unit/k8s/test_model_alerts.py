"""The alerts on models: of predictors' metrics and of the exporter's, as promtool judges them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from mlops_assets.exporter.figures import EXPORTER_METRICS, METRICS
from tests import promtool
from tests.promtool import rules

if TYPE_CHECKING:
    from pathlib import Path

OF = 'namespace="mlops-production",model="iris"'
INFO = {f'model_info{{{OF},task="regression",owner="team:risk"}}': "1x3000"}
THRESHOLD = {f"model_drift_threshold{{{OF}}}": "0.3x3000"}
SCORE, REPORTED = f"model_drift_score{{{OF}}}", f"model_drift_report_timestamp_seconds{{{OF}}}"
DRIFT = INFO | THRESHOLD | {REPORTED: "0x30"}
TRAINED, AGE = f"model_last_trained_timestamp_seconds{{{OF}}}", {f"model_stale_after_seconds{{{OF}}}": "36000x3000"}
FAILURES = f"model_retrain_failures{{{OF}}}"
OF_WEEK, BUDGET = f"model_retrains_of_week{{{OF}}}", {f"model_retrain_budget{{{OF}}}": "3x10"}
SKEW = f'model_check_passed{{{OF},stage="deployment",check="no_skew"}}'
GATE = f'model_check_passed{{{OF},stage="evaluation",check="gate"}}'
ROLLED_BACK = f'model_rollout_steps_total{{{OF},state="rolled_back"}}'
PROMOTED = f'model_rollout_steps_total{{{OF},state="promoted"}}'
ANSWERED, FAILED = (f'model_requests_total{{{OF},pod="a",code="{code}"}}' for code in (200, 500))
FAST, SLOW = (f'model_request_duration_seconds_bucket{{{OF},pod="a",le="{le}"}}' for le in ("0.5", "1"))
DROPPED = f'model_inference_log_dropped_total{{{OF},pod="a"}}'
UP = 'model_exporter_up{namespace="mlops-production",source="registry"}'
READ = 'model_exporter_last_success_timestamp_seconds{namespace="mlops-production",source="registry"}'
EXPORTER = 'kube_deployment_status_replicas_available{namespace="mlops-production",deployment="exporter"}'
DAEMON = 'kube_deployment_spec_replicas{namespace="mlops-production",deployment="dagster-daemon"}'


@pytest.mark.parametrize(
    ("alert", "series", "at", "fires"),
    [
        ("ModelDriftDetected", DRIFT | {SCORE: "0.31x30"}, "9m", False),
        ("ModelDriftDetected", DRIFT | {SCORE: "0.31x30"}, "11m", True),
        ("ModelDriftDetected", DRIFT | {SCORE: "0.3x30"}, "30m", False),
        ("ModelDriftDetected", DRIFT | {SCORE: "0.9x5 0.1x30"}, "20m", False),
        # Its own threshold counts
        ("ModelDriftDetected", DRIFT | {SCORE: "0.4x30", **dict.fromkeys(THRESHOLD, "0.5x30")}, "20m", False),
        # A report of long ago is no news
        ("ModelDriftDetected", DRIFT | {SCORE: "0.9x30", REPORTED: "-300000x30"}, "20m", False),
        ("ModelDriftDetected", {**INFO, **THRESHOLD, SCORE: "0.9x30"}, "20m", False),
        ("ModelStale", INFO | AGE | {TRAINED: "-36000x90"}, "59m", False),
        ("ModelStale", INFO | AGE | {TRAINED: "-36000x90"}, "62m", True),
        ("ModelStale", INFO | AGE | {TRAINED: "0x90"}, "80m", False),
        ("ModelStale", INFO | {TRAINED: "-36000x90"}, "80m", False),
        ("RetrainFailing", INFO | {FAILURES: "1x10"}, "10m", False),
        ("RetrainFailing", INFO | {FAILURES: "1x5 2x5"}, "8m", True),
        ("RetrainFailing", INFO | {FAILURES: "2x5 0x5"}, "10m", False),
        ("RetrainBudgetSpent", INFO | BUDGET | {OF_WEEK: "2x10"}, "10m", False),
        ("RetrainBudgetSpent", INFO | BUDGET | {OF_WEEK: "2x5 3x5"}, "8m", True),
        ("RetrainBudgetSpent", INFO | {OF_WEEK: "9x10"}, "10m", False),
        ("SkewDetected", INFO | {SKEW: "0x5"}, "5m", True),
        ("SkewDetected", INFO | {SKEW: "1x5"}, "5m", False),
        ("SkewDetected", INFO | {GATE: "0x5"}, "5m", False),
        ("RolloutRolledBack", INFO | {ROLLED_BACK: "0x5 1x100"}, "10m", True),
        ("RolloutRolledBack", INFO | {ROLLED_BACK: "0x5 1x100"}, "90m", False),
        ("RolloutRolledBack", INFO | {ROLLED_BACK: "3x100", PROMOTED: "0x5 1x100"}, "10m", False),
        ("PredictorErrorRate", {ANSWERED: "0+98x30", FAILED: "0+2x30"}, "12m", True),
        ("PredictorErrorRate", INFO | {ANSWERED: "0+98x30", FAILED: "0+2x30"}, "12m", True),
        ("PredictorErrorRate", {ANSWERED: "0+98x30", FAILED: "0+2x30"}, "5m", False),
        ("PredictorErrorRate", {ANSWERED: "0+999x30", FAILED: "0+1x30"}, "30m", False),
        ("PredictorErrorRate", {ANSWERED: "0x30", FAILED: "0x30"}, "30m", False),
        # What the caller did wrong is no error of ours
        ("PredictorErrorRate", {FAILED.replace("500", "400"): "0+9x30"}, "30m", False),
        (
            "PredictorLatency",
            {FAST: "0+95x30", SLOW: "0+100x30", SLOW.replace('"1"', '"+Inf"'): "0+100x30"},
            "16m",
            True,
        ),
        (
            "PredictorLatency",
            {FAST: "0+95x30", SLOW: "0+100x30", SLOW.replace('"1"', '"+Inf"'): "0+100x30"},
            "8m",
            False,
        ),
        (
            "PredictorLatency",
            {FAST: "0+100x30", SLOW: "0+100x30", SLOW.replace('"1"', '"+Inf"'): "0+100x30"},
            "30m",
            False,
        ),
        ("InferenceLogDropping", {DROPPED: "0x5 4x60"}, "8m", True),
        ("InferenceLogDropping", {DROPPED: "4x60"}, "30m", False),
        ("InferenceLogDropping", {DROPPED: "0x5 4x60"}, "40m", False),
        ("NoTraffic", INFO | {ANSWERED: "0+10x1440 14400x300"}, "25h10m", False),
        ("NoTraffic", INFO | {ANSWERED: "0+10x1440 14400x300"}, "25h30m", True),
        ("NoTraffic", INFO | {ANSWERED: "0+10x1800"}, "29h", False),
        # Nobody asks at night
        ("NoTraffic", INFO | {ANSWERED: "0+0x1800"}, "29h", False),
        ("FiguresMissing", {UP: "1x5 0x30"}, "19m", False),
        ("FiguresMissing", {UP: "1x5 0x30"}, "22m", True),
        ("FiguresMissing", {UP: "1x30"}, "30m", False),
        ("ExporterDown", {EXPORTER: "1x5 0x30"}, "9m", False),
        ("ExporterDown", {EXPORTER: "1x5 0x30"}, "12m", True),
        ("ExporterDown", {EXPORTER: "1x30"}, "30m", False),
        ("ExporterDown", {EXPORTER: "1x30", DAEMON: "1x30", UP: "1x30"}, "30m", False),
        # It was deleted, or Prometheus does not reach it
        ("ExporterDown", {DAEMON: "1x30"}, "4m", False),
        ("ExporterDown", {DAEMON: "1x30"}, "12m", True),
        ("ExporterDown", {EXPORTER: "1x30", DAEMON: "1x30", UP: "1x5 stale"}, "20m", True),
        ("ExporterDown", {EXPORTER: "0x30", DAEMON: "1x30"}, "12m", True),
        # MLflow has pods, and does not answer
        ("MLflowServerDown", {READ: "0+60x5 300x30"}, "11m", False),
        ("MLflowServerDown", {READ: "0+60x5 300x30"}, "14m", True),
        ("MLflowServerDown", {READ: "0+60x30"}, "30m", False),
    ],
)
def test_an_alert_fires_when_it_should(
    tmp_path: Path, alert: str, series: dict[str, str], at: str, fires: bool
) -> None:
    assert promtool.fires(tmp_path, alert, series, at) is fires


def test_the_cost_of_trainings_is_their_share_of_their_nodes_prices(tmp_path: Path) -> None:
    node = 'node="n1"'
    place = 'label_node_kubernetes_io_instance_type="g5.xlarge",label_karpenter_sh_capacity_type="spot"'
    place += ',label_topology_kubernetes_io_zone="z1"'
    offering = 'instance_type="g5.xlarge",capacity_type="spot",zone="z1"'
    pods = [("a", "iris", "trained_model", 3), ("b", "flights", "features", 1)]
    series = {f'kube_node_labels{{{node},label_mlops_dev_pool="gpu",{place}}}': "1x120"}
    series |= {f"karpenter_cloudprovider_instance_type_offering_price_estimate{{{offering}}}": "2x120"}
    for pod, model, stage, cpus in pods:
        of = f'namespace="mlops-production",pod="{pod}"'
        described = f'label_mlops_dev_model="{model}",label_mlops_dev_stage="{stage}",label_mlops_dev_owner="risk"'
        series |= {f'kube_pod_container_resource_requests{{{of},{node},resource="cpu"}}': f"{cpus}x120"}
        series |= {
            f"kube_pod_labels{{{of},{described}}}": "1x120",
            f'kube_pod_status_phase{{{of},phase="Running"}}': "1x120",
        }
    # 2 USD an hour, of which three of four CPUs are the training's; after an hour and its first look
    queries = [
        'model_training_cost_usd{model="iris"} > 1.4 < 1.8',
        'mlops:model_usd_per_hour{label_mlops_dev_model="flights"} == 0.5',
    ]
    assert promtool.queries_without_data(tmp_path, queries, series, "1h") == []
    assert promtool.queries_without_data(tmp_path, ['model_training_cost_usd{model="flights"}'], series, "1h") != []


def test_the_rules_ask_for_metrics_that_there_are() -> None:
    predictors = {"model_requests_total", "model_request_duration_seconds_bucket", "model_inference_log_dropped_total"}
    recorded = {rule["record"] for group in rules() for rule in group["rules"] if "record" in rule}
    known = METRICS.keys() | EXPORTER_METRICS.keys() | predictors | recorded
    asked = {
        name
        for group in rules()
        for rule in group["rules"]
        for name in re.findall(
            r"(?<![\w:{])((?:mlops:)?model_\w+(?::\w+)*)", re.sub(r"\(namespace[^)]*\)", "", rule["expr"])
        )
    }
    assert len(asked) > 10
    assert asked <= known | {"label_mlops_dev_model"}
