"""The servers of this machine: started, stopped and asked. What they keep on disk stays."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from resources.environment import PROJECT
from resources.features.local_transformer import local_transformer
from resources.local.background_server import BackgroundServer
from resources.serving.choose_target import local_serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resources.environment import Environment


def local_servers(environment: Environment) -> list[BackgroundServer]:
    """Those that this environment runs here: a shared MLflow server and KServe run elsewhere, and there is a
    transformer where models have feature views.
    """
    servers = [] if environment.mlflow_uri else [environment.mlflow_server()]
    if not environment.production:
        servers += [local_serving(environment).server, exporter(environment)]
        if environment.features.exists() or environment.features_database:
            servers.append(local_transformer(environment))
    return servers


def exporter(environment: Environment) -> BackgroundServer:
    """The metrics of models and of Dagster, for a Prometheus of this machine."""
    command = [sys.executable, "-m", "mlops_assets.cli", "exporter"]
    paths = {"PYTHONPATH": str(PROJECT)}
    return BackgroundServer(environment.state, "exporter", environment.exporter_port, "/metrics", command, paths)


def start(environment: Environment) -> Iterator[str]:
    """Start those that do not run, without waiting until they answer; the model server once there is a model.

    Raises:
        ServerError: another program holds a port.
    """
    models = local_serving(environment).models
    for server in local_servers(environment):
        if server.name == "serving" and not models.exists():
            yield f"{server.name}: not started, nothing is deployed yet"
            continue
        ran = server.pid() is not None
        server.launch()
        yield f"{server.name}: {server.url}{' (ran already)' if ran else ''}"
    yield from _elsewhere(environment)


def stop(environment: Environment) -> Iterator[str]:
    """End those that run."""
    for server in reversed(local_servers(environment)):
        yield f"{server.name}: {'stopped' if server.stop() else 'was not running'}"
        if server.name == "serving" and local_serving(environment).candidates.stop():
            yield "candidates: stopped"


def status(environment: Environment) -> Iterator[str]:
    """Whether they run and answer, and where; and which models the model server refuses, and why."""
    for server in local_servers(environment):
        yield f"{server.name}: {state_of(server)}"
    if not environment.production:
        for name, reason in local_serving(environment).refused().items():
            yield f"serving: {name} is not served as it was deployed: {reason}"
    yield from _elsewhere(environment)


def state_of(server: BackgroundServer) -> str:
    """What a server does, in words."""
    pid = server.pid()
    if pid is None:
        return "does not run"
    if server.answers():
        return f"answers at {server.url} (pid {pid}, log {server.log})"
    return f"runs and does not answer at {server.url} (pid {pid}, log {server.log})"


def _elsewhere(environment: Environment) -> Iterator[str]:
    if environment.mlflow_uri:
        yield f"mlflow: {environment.mlflow_uri}, which MLFLOW_TRACKING_URI names, is not run here"
    if environment.production:
        operator = {"kserve": "KServe", "seldon": "Seldon"}[environment.serving_operator]
        yield f"serving: {operator} serves (MLOPS_ENV is production)"
