"""`python -m mlops_assets.local_servers start|stop`: the local MLflow and model servers, for `make`.

What the servers keep on disk stays.
"""

import sys

from resources.environment import Environment
from resources.serving.local_serving import LocalServing


def main(what: str) -> None:
    """Start or stop both and say so."""
    environment = Environment.read()
    serving = LocalServing(state=str(environment.home / "serving"), port=environment.serving_port)
    mlflow = environment.mlflow_server()
    if what == "stop":
        for server in (serving.server, mlflow):
            sys.stdout.write(f"{server.name}: {'stopped' if server.stop() else 'was not running'}\n")
        return
    if environment.mlflow_uri is None:
        mlflow.launch()
        sys.stdout.write(f"{mlflow.name}: {mlflow.url}\n")
    if serving.models.exists():
        serving.server.launch()
        sys.stdout.write(f"{serving.server.name}: {serving.server.url}\n")


if __name__ == "__main__":
    main(sys.argv[1])
