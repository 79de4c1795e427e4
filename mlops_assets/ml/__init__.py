"""Pure functions on data, models and metrics: no Dagster, MLflow, Kubernetes or network."""
