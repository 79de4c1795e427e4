"""The MLflow server of this machine: `python -m resources.tracking.mlflow_server --port PORT ...`.

It is what `mlflow server` runs, without the process of that command, which loads MLflow a second time (half of the
seconds and of the memory) to start this one and wait. tests/unit/resources/tracking/test_mlflow_server.py holds what it
takes from MLflow.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from resources.tracking.mlflow_database import ARTIFACTS, address_of, create_database


def variables_of(database: Path, artifacts: Path) -> dict[str, str]:
    """By what `mlflow server` tells its uvicorn where runs and artifacts lie, and switches of ours."""
    return {
        "_MLFLOW_SERVER_FILE_STORE": address_of(database),
        "_MLFLOW_SERVER_REGISTRY_STORE": address_of(database),
        "_MLFLOW_SERVER_ARTIFACT_ROOT": ARTIFACTS,
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(artifacts),
        "_MLFLOW_SGI_NAME": "uvicorn",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--database", "--artifacts"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    os.environ |= variables_of(options.database, options.artifacts)  # MLflow reads some when it is imported
    import uvicorn
    from mlflow.exceptions import MlflowException
    from mlflow.server.handlers import initialize_backend_stores

    create_database(options.database)
    try:
        initialize_backend_stores(address_of(options.database), address_of(options.database), ARTIFACTS)
    except MlflowException as error:
        sys.exit(str(error))  # such as: another version of MLflow made it, and how it is upgraded
    uvicorn.run("mlflow.server.fastapi_app:app", host="127.0.0.1", port=options.port, access_log=False)


if __name__ == "__main__":
    main(sys.argv[1:])
