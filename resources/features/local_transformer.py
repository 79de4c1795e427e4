"""The transformer of this machine, which asks its model server."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from resources.environment import PROJECT
from resources.local.background_server import BackgroundServer

if TYPE_CHECKING:
    from resources.environment import Environment


def local_transformer(environment: Environment) -> BackgroundServer:
    """The process that looks features up, beside the model server."""
    predictor = f"http://127.0.0.1:{environment.serving_port}"
    port = environment.features_port
    command = [sys.executable, "-m", "resources.features.transformer", "--predictor", predictor, "--port", str(port)]
    if environment.features_grpc_port:
        command += ["--grpc-port", str(environment.features_grpc_port)]
    variables = {"PYTHONPATH": str(PROJECT), "MLOPS_HOME": str(environment.home)}
    return BackgroundServer(environment.state, "transformer", port, "/v2/health/live", command, variables)
