"""MLflow: runs, registry, and artifacts as MLflow models."""
