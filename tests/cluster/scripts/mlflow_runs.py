"""Print all MLflow runs as JSON: experiment, status, tags and metrics."""

import json

import mlflow

client = mlflow.MlflowClient()
experiments = {experiment.experiment_id: experiment.name for experiment in client.search_experiments()}
runs = [
    {
        "experiment": experiments[run.info.experiment_id],
        "status": run.info.status,
        "tags": run.data.tags,
        "metrics": run.data.metrics,
    }
    for run in client.search_runs(list(experiments))
]
print(json.dumps(runs))
