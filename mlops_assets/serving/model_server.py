"""The model server: one KServe ModelServer for all models that DIR declares.

`python -m mlops_assets.serving.model_server --models DIR --port 8085 [--host 127.0.0.1]`

A predictor pod serves one version, which it fetches first:
`... --fetch s3://bucket/place --model NAME --model-version 3 --sha256 DIGEST`
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from mlops_assets.ml.errors import MlopsError


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--fetch", help="s3:// place of an artifact to serve")
    for name in ("--model", "--model-version", "--sha256"):
        parser.add_argument(name, help="what is fetched")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)

    sys.argv = sys.argv[:1]  # importing kserve.model_server parses the command line
    from kserve import model_server

    from mlops_assets.serving.model_repository import Repository
    from mlops_assets.serving.routes import PredictionRoutes

    class RESTServer(model_server.RESTServer):
        """KServe listens on all addresses; this one on the address it is given."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.config.host = options.host

    repository = Repository(options.models)
    if options.fetch:
        from mlops_assets.serving.artifact_download import download_artifact
        from mlops_assets.serving.declaration import ServedVersion

        try:
            version = ServedVersion.of(options.model_version, options.sha256)
            download_artifact(options.fetch, options.models, options.model, version)
            repository.load(options.model)
        except MlopsError as error:
            # A pod without its one version ends, so that whoever rolls it out need not wait for it
            sys.exit(f"{options.model} is not served: {error}")
    else:
        repository.load_all()
    model_server.RESTServer = RESTServer
    model_server.app.add_middleware(PredictionRoutes, repository=repository)
    server = model_server.ModelServer(
        http_port=options.port, enable_grpc=False, registered_models=repository, enable_latency_logging=False
    )
    server.start(list(repository.get_models().values()))


if __name__ == "__main__":
    main(sys.argv[1:])
