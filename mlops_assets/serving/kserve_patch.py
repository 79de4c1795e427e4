"""All that is taken from KServe's server, and what is changed in it; tests/unit/serving/test_kserve_patch.py holds it.

The server's modules import kserve from here, so that the first import is always the one below.
"""

from __future__ import annotations

import logging
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

        def _add_middlewares(self, app: Any) -> None:
            """KServe times each request and writes two lines about it; our middleware does what is wanted."""

    model_server.RESTServer = RESTServer
    model_server.app.add_middleware(middleware, repository=repository)
    server = model_server.ModelServer(
        http_port=port, enable_grpc=False, registered_models=repository, enable_latency_logging=False
    )
    _quieten()
    return server


def _quieten() -> None:
    """Take the handlers that KServe gives its loggers and uvicorn's, so that the root's has all that is worth a line.

    A request that went wrong has a line of our middleware. What KServe's handlers of errors and uvicorn write of
    requests is left out.
    """
    for name in ("kserve", "kserve.trace", "uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
    errors = logging.getLogger("kserve")
    errors.addFilter(_is_of_no_request)


def _is_of_no_request(record: logging.LogRecord) -> bool:
    return record.module != "errors"
