"""All that is taken from KServe's server, and what is changed in it; tests/unit/serving/test_kserve_patch.py holds it.

The server's modules import kserve from here, so that the first import is always the one below.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def _no_arguments() -> Generator[None]:
    arguments, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = arguments


# An import of kserve takes sys.argv for KServe's options, abbreviated ones too, and exits where one does not fit
with _no_arguments():
    from kserve import Model, ModelRepository, model_server

__all__ = ["Model", "ModelRepository", "create_server"]


def create_server(repository: ModelRepository, middleware: type[Any], host: str, port: int) -> model_server.ModelServer:
    """KServe's server for the models of `repository`, with `middleware(app, repository)` in front of its routes."""

    class RESTServer(model_server.RESTServer):
        """KServe listens on all addresses; this one on `host`."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.config.host = host

    model_server.RESTServer = RESTServer
    model_server.app.add_middleware(middleware, repository=repository)
    return model_server.ModelServer(
        http_port=port, enable_grpc=False, registered_models=repository, enable_latency_logging=False
    )
