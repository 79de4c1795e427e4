"""Columns of any name have a metric each, which a real MLflow takes."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.entities import Metric

from resources.tracking.metric_names import metric_names

ODD = (
    "a//b",
    "/a",
    "a/",
    "a/./b",
    "a/../b",
    ".",
    "..",
    "/",
    "größe",
    "gräße",
    "日本",
    "中国",
    " ",
    "a:b",
    "__name__",
    "<b>|`",
    "x" * 200,
    "x" * 300,
    "x" * 300 + "y",
    "é" * 300,
)


def test_usual_names_stay() -> None:
    names = metric_names("drift", ["place", "km/h", "sepal length (cm)", "n.a."])
    assert list(names.values()) == ["drift/place", "drift/km/h", "drift/sepal length _cm_", "drift/n.a."]


def test_every_column_has_a_name_of_its_own_that_mlflow_takes(mlflow_uri: str) -> None:
    client = MlflowClient(mlflow_uri)
    run = client.create_run(client.create_experiment("names of metrics")).info.run_id
    names = metric_names("drift", ODD)
    client.log_batch(run, [Metric(names[column], number, 0, 0) for number, column in enumerate(ODD)])
    found = client.get_run(run).data.metrics
    assert {column: found[names[column]] for column in ODD} == {column: number for number, column in enumerate(ODD)}


def test_a_name_does_not_change_with_the_order_of_columns() -> None:
    assert metric_names("drift", ODD) == metric_names("drift", reversed(ODD))
