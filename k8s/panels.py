"""What Grafana's dashboards show: each panel with unit and queries. dashboards.py writes them as Grafana wants it."""

from __future__ import annotations

from typing import NamedTuple


class Panel(NamedTuple):
    """Lines over time; queries with their legends, in which {{label}} is the value of a label."""

    title: str
    description: str
    unit: str
    queries: dict[str, str]


class Dashboard(NamedTuple):
    """A page of panels; `variables` are chosen at its top, each with the query that lists its values."""

    uid: str
    title: str
    variables: dict[str, str]
    panels: tuple[Panel, ...]
    marks: dict[str, str]
    """Moments that are marked in all panels, by name."""


HERE = '{namespace="$namespace"}'
MODEL = '{namespace="$namespace", model="$model"}'
BUCKETS = f"model_request_duration_seconds_bucket{MODEL}"
SCORES = f"model_answer_score_bucket{MODEL}"
OF_PODS = "on (namespace, pod) group_left (label_mlops_dev_model, label_mlops_dev_stage) kube_pod_labels"
PENDING = 'kube_pod_status_phase{namespace="$namespace", phase="Pending"}'
WAITING = f"sum by (label_mlops_dev_model, label_mlops_dev_stage) ({PENDING} * {OF_PODS})"
NODES = 'kube_node_labels{label_mlops_dev_pool!=""}'
NAMESPACES = {"namespace": "label_values(model_info, namespace)"}

OVERVIEW = Dashboard(
    uid="mlops-models",
    title="Models",
    variables=NAMESPACES,
    marks={},
    panels=(
        Panel(
            "Requests", "What predictors answer, by model", "reqps", {"{{model}}": f"mlops:model_requests:rate5m{HERE}"}
        ),
        Panel(
            "Failed requests",
            "The share of answers with 5xx",
            "percentunit",
            {"{{model}}": f"mlops:model_error_ratio:rate5m{HERE}"},
        ),
        Panel(
            "Latency",
            "99 of 100 requests are answered within this time",
            "s",
            {"{{model}}": f"mlops:model_latency_seconds:p99{HERE}"},
        ),
        Panel(
            "Drift against its threshold",
            "The drift score as a share of monitor.drift_threshold: above 100 % it is told",
            "percentunit",
            {"{{model}}": f"model_drift_score{HERE} / on (namespace, model) model_drift_threshold"},
        ),
        Panel(
            "Champion", "The version with the alias champion", "none", {"{{model}}": f"model_champion_version{HERE}"}
        ),
        Panel(
            "The gate's metric of champions",
            "On the test part of each",
            "none",
            {"{{model}} {{metric}}": f"model_gate_metric{HERE}"},
        ),
        Panel(
            "Age of the newest version",
            "Since it was registered",
            "s",
            {"{{model}}": f"time() - model_last_trained_timestamp_seconds{HERE}"},
        ),
        Panel(
            "Age of the data",
            "Since the newest moment of the data that the champion was made from",
            "s",
            {"{{model}}": f"time() - model_data_timestamp_seconds{HERE}"},
        ),
        Panel(
            "Retrains",
            "By what became of them, within a week",
            "none",
            {"{{model}}: {{outcome}}": f"sum by (model, outcome) (increase(model_retrain_total{HERE}[7d]))"},
        ),
        Panel(
            "Failed checks",
            "1 where the newest gate, comparison or roll-out has failed",
            "none",
            {"{{model}} {{check}}": f"1 - model_check_passed{HERE}"},
        ),
        Panel(
            "Without a label",
            "The share of the window's rows whose label has not come",
            "percentunit",
            {"{{model}}": f"model_unlabelled_share{HERE}"},
        ),
        Panel(
            "Cost of trainings",
            "Of the last seven days, by Karpenter's prices",
            "currencyUSD",
            {"{{model}}": f"model_training_cost_usd{HERE}"},
        ),
    ),
)

ONE_MODEL = Dashboard(
    uid="mlops-model",
    title="One model",
    variables=NAMESPACES | {"model": 'label_values(model_info{namespace="$namespace"}, model)'},
    marks={"champion": f"changes(model_champion_version{MODEL}[2m]) > 0"},
    panels=(
        Panel(
            "Requests",
            "Answers a second, by HTTP's code",
            "reqps",
            {"{{code}}": f"sum by (code) (rate(model_requests_total{MODEL}[5m]))"},
        ),
        Panel(
            "Latency",
            "The time within which so many of 100 requests are answered",
            "s",
            {
                f"{share} of 100": f"histogram_quantile({share / 100}, sum by (le) (rate({BUCKETS}[5m])))"
                for share in (50, 95, 99)
            },
        ),
        Panel(
            "Answers",
            "Rows a second, by the label that was answered",
            "none",
            {"{{label}}": f"sum by (label) (rate(model_answers_total{MODEL}[5m]))"},
        ),
        Panel(
            "Scores",
            "So many of 100 rows have at most this score: a probability, or what a regression predicts",
            "none",
            {
                f"{share} of 100": f"histogram_quantile({share / 100}, sum by (le) (rate({SCORES}[5m])))"
                for share in (10, 50, 90)
            },
        ),
        Panel(
            "Drift",
            "The score of the newest report, and the threshold of the YAML",
            "percentunit",
            {"score": f"model_drift_score{MODEL}", "threshold": f"model_drift_threshold{MODEL}"},
        ),
        Panel(
            "Drift of each column",
            "As the method of the column gives it; the report says which that is",
            "none",
            {"{{column}}": f"model_column_drift{MODEL}"},
        ),
        Panel(
            "Columns that have drifted",
            "1 where a column is above the threshold of its method",
            "none",
            {"{{column}}": f"model_column_drifted{MODEL}"},
        ),
        Panel(
            "How good it is",
            "Of rows whose label has come; of the gate's metric also what the test part gave and what the gate demands",
            "none",
            {
                "{{metric}}, live": f"model_live_metric{MODEL}",
                "{{metric}}, test part": f"model_gate_metric{MODEL}",
                "{{metric}}, gate": f"model_gate_threshold{MODEL}",
            },
        ),
        Panel(
            "Without a label",
            "The share of the window's rows whose label has not come",
            "percentunit",
            {"share": f"model_unlabelled_share{MODEL}"},
        ),
        Panel(
            "Delay of labels", "From answer to label, the median", "s", {"median": f"model_label_delay_seconds{MODEL}"}
        ),
        Panel("Champion", "The version with the alias champion", "none", {"version": f"model_champion_version{MODEL}"}),
        Panel(
            "Roll-outs",
            "Steps that versions have reached within a day",
            "none",
            {"{{state}}": f"increase(model_rollout_steps_total{MODEL}[1d])"},
        ),
        Panel(
            "Retrains",
            "By cause and by what became of them, within a week",
            "none",
            {"{{reason}}: {{outcome}}": f"increase(model_retrain_total{MODEL}[7d])"},
        ),
        Panel(
            "Inference log",
            "Requests that are stored, and those that were dropped",
            "reqps",
            {
                "stored": f"sum(rate(model_inference_log_stored_total{MODEL}[5m]))",
                "dropped": f"sum(rate(model_inference_log_dropped_total{MODEL}[5m])) or vector(0)",
            },
        ),
        Panel(
            "Speed of training",
            "Rows a second of the newest training of a network",
            "none",
            {"rows/s": f"model_training_rows_per_second{MODEL}"},
        ),
        Panel(
            "Cost of trainings",
            "Of the last seven days, by Karpenter's prices",
            "currencyUSD",
            {"seven days": f"model_training_cost_usd{MODEL}"},
        ),
    ),
)

PLATFORM = Dashboard(
    uid="mlops-platform",
    title="Platform",
    variables=NAMESPACES,
    marks={},
    panels=(
        Panel("Runs", "Those that have not ended, by status", "none", {"{{status}}": f"dagster_runs{HERE}"}),
        Panel(
            "Age of the daemon's heartbeats",
            "Of each of its threads",
            "s",
            {"{{daemon}}": f"time() - dagster_daemon_heartbeat_timestamp_seconds{HERE}"},
        ),
        Panel(
            "Pods of the parts",
            "Those that are available",
            "none",
            {"{{deployment}}": f"kube_deployment_status_replicas_available{HERE}"},
        ),
        Panel(
            "Waiting pods",
            "Pods that have not started, by stage of a model",
            "none",
            {
                "{{label_mlops_dev_model}} {{label_mlops_dev_stage}}": WAITING,
            },
        ),
        Panel(
            "Nodes",
            "Of our pools",
            "none",
            {"{{label_karpenter_sh_nodepool}}": f"count by (label_karpenter_sh_nodepool) ({NODES})"},
        ),
        Panel("GPUs", "Of the nodes that there are, by pool", "none", {"{{nodepool}}": "mlops:gpus"}),
        Panel("GPU hours", "Of a day, by pool", "h", {"{{nodepool}}": "mlops:gpu_hours:1d"}),
        Panel(
            "Work of GPUs",
            "How much of the time a GPU computes",
            "percent",
            {"{{pod}} {{gpu}}": f"DCGM_FI_DEV_GPU_UTIL{HERE}"},
        ),
        Panel(
            "Cost by model",
            "USD an hour, by the share of CPUs of each node",
            "currencyUSD",
            {"{{label_mlops_dev_model}}": f"sum by (label_mlops_dev_model) (mlops:model_usd_per_hour{HERE})"},
        ),
        Panel(
            "Cost by owner",
            "USD an hour, by the first owner of the model",
            "currencyUSD",
            {"{{label_mlops_dev_owner}}": f"sum by (label_mlops_dev_owner) (mlops:model_usd_per_hour{HERE})"},
        ),
        Panel(
            "Sources of figures",
            "1 where the exporter could read all of a source",
            "none",
            {"{{source}}": f"model_exporter_up{HERE}"},
        ),
        Panel(
            "Age of figures",
            "Since a source was read",
            "s",
            {"{{source}}": f"time() - model_exporter_last_success_timestamp_seconds{HERE}"},
        ),
    ),
)

DASHBOARDS = {"models": OVERVIEW, "model": ONE_MODEL, "platform": PLATFORM}
