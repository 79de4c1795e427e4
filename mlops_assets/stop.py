"""`make stop`: ends the local model server and MLflow; what they keep on disk stays."""

import sys

from resources.environment import Environment
from resources.serving import Serving


def main() -> None:
    """Stop both and say so."""
    environment = Environment.read()
    serving = Serving(state=str(environment.home / "serving"), port=environment.serving_port)
    for server in (serving.server, environment.mlflow_server()):
        sys.stdout.write(f"{server.name}: {'stopped' if server.stop() else 'was not running'}\n")


if __name__ == "__main__":
    main()
