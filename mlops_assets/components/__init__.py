"""From a model's YAML to Dagster definitions."""
