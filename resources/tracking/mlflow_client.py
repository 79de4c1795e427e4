"""MLflow's client, as all of this project asks an MLflow server."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

HEADERS = "mlflow.tracking.request_header.registry"


def mlflow_client(address: str) -> MlflowClient:
    """A client of the server at an address, for runs and the registry.

    MLflow asks each installed package for headers of its requests (plugins `mlflow.request_header_provider`), and loads
    them with the first one. Feast's are for its own sources alone, and it takes five seconds to import.
    """
    from mlflow import MlflowClient
    from mlflow.utils import plugins

    if HEADERS not in sys.modules:
        found = plugins.get_entry_points

        def without_feasts(group: str) -> list[Any]:
            return [plugin for plugin in found(group) if not plugin.value.startswith("feast.")]

        plugins.get_entry_points = without_feasts
        try:
            importlib.import_module(HEADERS)
        finally:
            plugins.get_entry_points = found
    return MlflowClient(address, address)
