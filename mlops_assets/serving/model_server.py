"""The model server: one KServe ModelServer for all models that DIR declares.

`python -m mlops_assets.serving.model_server --models DIR --port 8085 [--host 127.0.0.1]`

A predictor pod serves one version, which it downloads first:
`... --fetch s3://bucket/prefix --model NAME --model-version 3 --sha256 DIGEST`
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mlops_assets.ml.errors import MlopsError
from mlops_assets.serving.artifact_download import download_artifact
from mlops_assets.serving.declaration import EXIT_REFUSED, ServedVersion
from mlops_assets.serving.kserve_patch import create_server
from mlops_assets.serving.log_lines import configure_logging
from mlops_assets.serving.model_repository import Repository
from mlops_assets.serving.routes import PredictionRoutes


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--fetch", help="s3:// prefix of an artifact to serve")
    for name in ("--model", "--model-version", "--sha256"):
        parser.add_argument(name, help="what is fetched")
    options = parser.parse_args(arguments)
    configure_logging()
    repository = Repository(options.models)
    if options.fetch:
        try:
            version = ServedVersion.of(options.model_version, options.sha256)
            download_artifact(options.fetch, options.models, options.model, version)
            repository.load(options.model)
        except MlopsError as error:
            # A pod without its one version ends, so that whoever deploys it need not wait for it
            print(f"{options.model} is not served: {error}", file=sys.stderr)  # noqa: T201
            sys.exit(EXIT_REFUSED)
    else:
        repository.load_all()
    server = create_server(repository, PredictionRoutes, options.host, options.port)
    server.start(list(repository.get_models().values()))


if __name__ == "__main__":
    main(sys.argv[1:])
