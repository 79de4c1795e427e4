"""The exporter behind a port: what it reads of, and the loop that ends with the process."""

from __future__ import annotations

import logging
import os
import signal
import threading
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server

from mlops_assets.components.dagster_storage import dagster_storage
from mlops_assets.components.defined_models import DEFS, defined_specs, model_files
from mlops_assets.exporter.dagster_runs import DagsterRuns
from mlops_assets.exporter.refreshing import Figures, Source
from mlops_assets.exporter.sources import (
    Reading,
    drift_figures,
    ledger_figures,
    of_each,
    registry_figures,
    spec_figures,
)
from mlops_assets.ml.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import dagster as dg

    from mlops_assets.spec.model_spec import ModelSpec
    from resources.environment import Environment
    from resources.lake.lake import Lake
    from resources.tracking.model_registry import ModelRegistry


class Models:
    """The models of the YAMLs in a folder, read again when a file has changed."""

    def __init__(self, root: Path) -> None:
        self._root, self._lock = root, threading.Lock()
        self._state: list[tuple[Path, int]] | None = None
        self._found: tuple[dict[str, ModelSpec], list[str]] = ({}, [])

    def now(self) -> tuple[dict[str, ModelSpec], list[str]]:
        """The specs, and the files that cannot be read."""
        with self._lock:
            state = [(file, file.stat().st_mtime_ns) for file in model_files(self._root)]
            if state != self._state:
                self._found, self._state = defined_specs(self._root), state
            return self._found


def sources(
    models: Models, lake: Lake, registry: ModelRegistry, open_instance: Callable[[], dg.DagsterInstance]
) -> list[Source]:
    """All that figures come from."""
    runs = DagsterRuns(open_instance, lake)

    def specs() -> dict[str, ModelSpec]:
        return models.now()[0]

    def read_models() -> Reading:
        found, broken = models.now()
        figures = [figure for spec in found.values() for figure in spec_figures(spec, lake.name_of(spec.model))]
        return Reading(tuple(figures), len(broken))

    def read_registry() -> Reading:
        found = specs()
        return of_each(found, lambda model: registry_figures(found[model], registry))

    return [
        Source("models", read_models),
        Source("registry", read_registry),
        Source("ledgers", lambda: of_each(specs(), partial(ledger_figures, lake=lake))),
        Source("drift", lambda: of_each(specs(), partial(drift_figures, lake=lake))),
        Source("runs", lambda: runs.read({model: lake.name_of(model) for model in specs()})),
    ]


def open_storage() -> dg.DagsterInstance:
    """Dagster's storage.

    Raises:
        SpecError: DAGSTER_HOME is not set.
    """
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        raise SpecError("DAGSTER_HOME is not set", remedy="set it to the folder of dagster.yaml that the daemon uses")
    return dagster_storage(home)


def serve(environment: Environment, address: str) -> None:
    """Answer scrapes until the process is asked to end."""
    from resources.tracking.model_registry import ModelRegistry

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    lake = environment.lake()
    # The address is given, because who only looks starts no server
    registry = ModelRegistry(uri=environment.mlflow_uri or environment.mlflow_server().url, lake=lake)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    found = sources(Models(DEFS), lake, registry, open_storage)
    for source in found:
        threading.Thread(target=source.run, args=(stop,), name=source.name, daemon=True).start()
    registered = CollectorRegistry()
    registered.register(Figures(found))
    server, _ = start_http_server(environment.exporter_port, address, registered)
    stop.wait()
    server.shutdown()
