"""Trains scikit-learn's iris model, logs it in MLflow as its pickle, and prints where that lies: `storageUri`."""

from __future__ import annotations

import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression


def main() -> None:
    """Use the server that MLFLOW_TRACKING_URI names, and scikit-learn of the version that the runtime has."""
    columns, species = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(columns, species)
    mlflow.set_experiment("iris-sklearn")
    with mlflow.start_run(run_name="iris-sklearn"):
        # The runtime reads the one file that ends with .pkl
        logged = mlflow.sklearn.log_model(model, name="model", serialization_format="pickle")
    print(logged.artifact_path)


if __name__ == "__main__":
    main()
