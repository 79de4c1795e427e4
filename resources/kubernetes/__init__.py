"""What this project asks of Kubernetes and of dagster-k8s: pods, their diagnosis, the executor, trainings."""
