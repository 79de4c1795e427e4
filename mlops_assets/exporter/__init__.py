"""The metrics of models and platform for Prometheus, read from what is stored: `mlops-assets exporter`.

figures.py     the metrics there are, and figures of them
sources.py     what YAMLs, registry, ledgers and drift reports say of each model
dagster_runs.py  what Dagster's own storage says: trainings, checks, retrains, runs, daemons
refreshing.py  sources that are read again and again, each in a thread of its own, and what a scrape gets of them
server.py      all of it behind a port
"""
