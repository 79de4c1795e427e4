"""k8s/components/alerts: promtool, Prometheus' own tester, gets the rules and time series, and says what fires when."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import promtool
from tests.promtool import rules

PROJECT = Path(__file__).parents[3]
NAMESPACE = 'namespace="mlops-production"'
DAEMON = f'kube_deployment_status_replicas_available{{{NAMESPACE},deployment="dagster-daemon"}}'
RESTARTS = f'kube_pod_container_status_restarts_total{{{NAMESPACE},pod="dagster-daemon-7f",container="daemon"}}'
POD = f'{NAMESPACE},pod="dagster-step-1"'
PENDING = f'kube_pod_status_phase{{{POD},phase="Pending"}}'
LABELS = f'kube_pod_labels{{{POD},label_mlops_dev_model="fraud_detection",label_mlops_dev_stage="trained_model"}}'
SERVED = f'kube_pod_labels{{{POD},label_mlops_dev_model="fraud_detection",label_mlops_dev_stage="serving"}}'
UNLABELLED = f"kube_pod_labels{{{POD}}}"
CODE = DAEMON.replace("dagster-daemon", "dagster-code")
CODE_OF_CHART = DAEMON.replace("dagster-daemon", "dagster-dagster-user-deployments-mlops-assets")
MLFLOW = DAEMON.replace("dagster-daemon", "mlflow")
PART = f'kube_deployment_spec_replicas{{{{{NAMESPACE},deployment="{{}}"}}}}'
PARTS = {PART.format(name): "1x30" for name in ("dagster-daemon", "dagster-code", "mlflow")}
ENVIRONMENT = f'kube_namespace_status_phase{{{NAMESPACE},phase="Active"}}'
SECRET = f'externalsecret_status_condition{{{NAMESPACE},name="mlflow-client",condition="Ready",status="False"}}'
RUN = 'label_app_kubernetes_io_component="run_worker",label_dagster_run_id="1a",label_dagster_job="iris"'
FIRST, SECOND = (f'{NAMESPACE},job_name="dagster-run-1a{name}"' for name in ("", "-1"))
RUN_JOB, NEXT_JOB = (f"kube_job_labels{{{job},{RUN}}}" for job in (FIRST, SECOND))
STEP_JOB = RUN_JOB.replace("run_worker", "step_worker")
FAILED = f'kube_job_status_failed{{{FIRST},reason="BackoffLimitExceeded"}}'
ACTIVE, SUCCEEDED = (f"kube_job_status_{what}{{{SECOND}}}" for what in ("active", "succeeded"))
RUN_POD = f"kube_pod_labels{{{POD},{RUN}}}"
DELETED = f"kube_pod_deletion_timestamp{{{POD}}}"
PREDICTOR = f'{NAMESPACE},deployment="iris-predictor"'
ANSWERING = f"kube_deployment_status_replicas_available{{{PREDICTOR}}}"
WANTED = f"kube_deployment_spec_replicas{{{PREDICTOR}}}"
NODE = 'node="ip-10-1-2-3"'
READY = f'kube_node_status_condition{{{NODE},condition="Ready",status="true"}}'
OF_POOL = f'kube_node_labels{{{NODE},label_mlops_dev_pool="gpu",label_karpenter_sh_nodepool="gpu"}}'
GPUS = f'kube_node_status_capacity{{{NODE},resource="nvidia_com_gpu",unit="integer"}}'
LIMIT = 'karpenter_nodepools_limit{nodepool="gpu",resource_type="nvidia.com/gpu",pod="karpenter-0"}'


def candidate(series: str) -> str:
    """The same of the Deployment that proves a version."""
    return series.replace("iris-predictor", "iris-candidate-predictor")


@pytest.mark.parametrize(
    ("alert", "series", "at", "fires"),
    [
        ("DagsterDaemonDown", {DAEMON: "1 1 0x10"}, "6m", False),
        ("DagsterDaemonDown", {DAEMON: "1 1 0x10"}, "8m", True),
        ("DagsterDaemonDown", {DAEMON: "1x20"}, "20m", False),
        ("DagsterDaemonDown", {DAEMON.replace("mlops-production", "kafka"): "0x20"}, "20m", False),
        ("DagsterDaemonHangs", {RESTARTS: "0x10 1x50"}, "60m", False),
        ("DagsterDaemonHangs", {RESTARTS: "0x10 1x10 2x30 3x10"}, "60m", True),
        ("TrainingStuckPending", {PENDING: "1x40", LABELS: "1x40"}, "19m", False),
        ("TrainingStuckPending", {PENDING: "1x40", LABELS: "1x40"}, "21m", True),
        ("TrainingStuckPending", {PENDING: "1x10 0x30", LABELS: "1x40"}, "35m", False),
        ("TrainingStuckPending", {PENDING: "1x40", SERVED: "1x40"}, "35m", False),
        ("TrainingStuckPending", {PENDING: "1x40", UNLABELLED: "1x40"}, "35m", False),
        ("TrainingStuckPending", {PENDING: "1x40", RUN_POD: "1x40"}, "35m", False),
        ("RunStuckPending", {PENDING: "1x40", RUN_POD: "1x40"}, "19m", False),
        ("RunStuckPending", {PENDING: "1x40", RUN_POD: "1x40"}, "21m", True),
        ("RunStuckPending", {PENDING: "1x10 0x30", RUN_POD: "1x40"}, "35m", False),
        ("RunStuckPending", {PENDING: "1x40", LABELS: "1x40"}, "35m", False),
        ("CodeLocationDown", {CODE: "1x2 0x10"}, "6m", False),
        ("CodeLocationDown", {CODE: "1x2 0x10"}, "9m", True),
        ("CodeLocationDown", {CODE_OF_CHART: "0x10"}, "6m", True),
        ("CodeLocationDown", {CODE: "1x20"}, "20m", False),
        ("MLflowServerDown", {MLFLOW: "0x10"}, "6m", True),
        ("MLflowServerDown", {MLFLOW: "1x20"}, "20m", False),
        ("PartMissing", {ENVIRONMENT: "1x30", **PARTS}, "20m", False),
        ("PartMissing", {ENVIRONMENT: "1x30", **PARTS, PART.format("mlflow"): "2x5 stale"}, "19m", False),
        ("PartMissing", {ENVIRONMENT: "1x30", **PARTS, PART.format("mlflow"): "2x5 stale"}, "22m", True),
        ("PartMissing", {ENVIRONMENT: "1x30"}, "16m", True),
        ("PartMissing", {ENVIRONMENT.replace("mlops-production", "kafka"): "1x30"}, "20m", False),
        ("PartMissing", {ENVIRONMENT: "0x30"}, "20m", False),
        ("NothingIsSeen", PARTS, "20m", False),
        ("NothingIsSeen", {}, "14m", False),
        ("NothingIsSeen", {}, "16m", True),
        ("NothingIsSeen", {PART.format("dagster-daemon").replace("mlops-production", "kafka"): "1x30"}, "16m", True),
        ("SecretNotSynced", {SECRET: "0x5 1x30"}, "19m", False),
        ("SecretNotSynced", {SECRET: "0x5 1x30"}, "22m", True),
        ("SecretNotSynced", {SECRET.replace("mlops-production", "kafka"): "1x30"}, "22m", False),
        ("RunFailed", {FAILED: "0x5 1x99", RUN_JOB: "1x99"}, "7m", False),
        ("RunFailed", {FAILED: "0x5 1x99", RUN_JOB: "1x99"}, "10m", True),
        ("RunFailed", {FAILED: "0x5 1x99", RUN_JOB: "1x99"}, "70m", False),
        ("RunFailed", {FAILED: "1x99", STEP_JOB: "1x99"}, "10m", False),
        ("RunFailed", {FAILED: "0x99", RUN_JOB: "1x99"}, "10m", False),
        # Its worker died, and another one goes on
        *(
            ("RunFailed", {FAILED: "1x99", RUN_JOB: "1x99", NEXT_JOB: "1x99", **counts}, "30m", fires)
            for counts, fires in [
                ({ACTIVE: "1x99", SUCCEEDED: "0x99"}, False),
                ({ACTIVE: "0x99", SUCCEEDED: "1x99"}, False),
                ({ACTIVE: "0x99", SUCCEEDED: "0x99"}, True),
            ]
        ),
        ("PodStuckTerminating", {DELETED: "300x40"}, "14m", False),
        ("PodStuckTerminating", {DELETED: "300x40"}, "16m", True),
        ("PodStuckTerminating", {DELETED: "300x12 _x20"}, "25m", False),
        ("PredictorDown", {ANSWERING: "2x3 0x10", WANTED: "2x20"}, "8m", False),
        ("PredictorDown", {ANSWERING: "2x3 0x10", WANTED: "2x20"}, "10m", True),
        ("PredictorDown", {ANSWERING: "1x20", WANTED: "2x20"}, "20m", False),
        ("PredictorDown", {ANSWERING: "0x20", WANTED: "0x20"}, "20m", False),
        ("PredictorDown", {candidate(ANSWERING): "0x20", candidate(WANTED): "2x20"}, "20m", False),
        ("PredictorReplicasMissing", {ANSWERING: "1x40", WANTED: "2x40"}, "14m", False),
        ("PredictorReplicasMissing", {ANSWERING: "1x40", WANTED: "2x40"}, "16m", True),
        ("PredictorReplicasMissing", {ANSWERING: "1x10 2x30", WANTED: "2x40"}, "30m", False),
        ("PredictorReplicasMissing", {ANSWERING: "0x40", WANTED: "2x40"}, "30m", False),
        ("NodeNotReady", {READY: "1x5 0x20", OF_POOL: "1x30"}, "10m", False),
        ("NodeNotReady", {READY: "1x5 0x20", OF_POOL: "1x30"}, "12m", True),
        ("NodeNotReady", {READY: "1x30", OF_POOL: "1x30"}, "20m", False),
        ("NodeNotReady", {READY: "0x30"}, "20m", False),
        # 2 GPUs of a pool of at most 2: 24 hours within half a day
        ("GpuHoursHigh", {GPUS: "2x1500", OF_POOL: "1x1500", LIMIT: "2x1500"}, "11h", False),
        ("GpuHoursHigh", {GPUS: "2x1500", OF_POOL: "1x1500", LIMIT: "2x1500"}, "13h", True),
        ("GpuHoursHigh", {GPUS: "2x1500", OF_POOL: "1x1500", LIMIT: "8x1500"}, "24h", False),
        ("GpuHoursHigh", {GPUS: "2x660 _x840", OF_POOL: "1x660 _x840", LIMIT: "2x1500"}, "20h", False),
    ],
)
def test_an_alert_fires_when_it_should(
    tmp_path: Path, alert: str, series: dict[str, str], at: str, fires: bool
) -> None:
    assert promtool.fires(tmp_path, alert, series, at) is fires


def test_every_alert_has_its_place_in_the_runbook() -> None:
    runbook = (PROJECT / "docs" / "operations.md").read_text()
    alerts = [rule for group in rules() for rule in group["rules"] if "alert" in rule]
    assert alerts
    for alert in alerts:
        assert alert["annotations"]["runbook"] == "docs/operations.md#alerts"
        assert f"`{alert['alert']}`" in runbook.partition("## Alerts")[2]
