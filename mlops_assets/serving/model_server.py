"""The model server: one process for all models that DIR declares, over KServe's V1 and V2 protocols.

`python -m mlops_assets.serving.model_server --models DIR --port 8085 [--grpc-port 8086] [--token-file FILE]`

A predictor pod serves one version, which it downloads first:
`... --host 0.0.0.0 --fetch s3://bucket/prefix --model NAME --model-version 3 --sha256 DIGEST --drain 5`
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from mlops_assets.ml.errors import MlopsError
from mlops_assets.serving.artifact_download import download_artifact
from mlops_assets.serving.declaration import EXIT_REFUSED, ServedVersion
from mlops_assets.serving.grpc_server import Inference, start_grpc_server
from mlops_assets.serving.http_server import STOP_S, Server
from mlops_assets.serving.inference_log import InferenceLog
from mlops_assets.serving.lake_files import open_lake_files
from mlops_assets.serving.limits import Limits
from mlops_assets.serving.load_token import load_token
from mlops_assets.serving.log_lines import configure_logging
from mlops_assets.serving.log_policy import InferenceLogPolicy
from mlops_assets.serving.model_repository import Repository
from mlops_assets.serving.routes import LOCAL_HOSTS, Routes
from mlops_assets.serving.server_state import ServerState
from mlops_assets.serving.traffic_follower import TrafficFollower

if TYPE_CHECKING:
    from argparse import Namespace

    from mlops_assets.serving.lake_files import LakeFiles

SALT = "MLOPS_LOG_SALT"
IDLE_S = 600
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, help="the folder of a folder for each model")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, help="V2 over gRPC too")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--token-file", type=Path, help="what whoever loads models shows; without it nobody does")
    parser.add_argument("--drain", type=float, default=0, help="seconds to go on answering after SIGTERM")
    parser.add_argument("--max-body-mib", type=int, default=Limits().body_bytes >> 20, help="the largest request")
    parser.add_argument("--max-rows", type=int, default=Limits().rows, help="the most rows of a request")
    parser.add_argument("--lake-uri", help="s3://bucket/prefix or folder, for the inference log and shared traffic")
    parser.add_argument("--candidates", action="store_true", help="serve the candidates, and not the champions")
    parser.add_argument("--gpu", action="store_true", help="run graphs on a GPU, and serve nothing where there is none")
    parser.add_argument("--log-policy", help="what is fetched: what of its requests is kept, as JSON")
    parser.add_argument("--explain", action="store_true", help="what is fetched: explain its answers, too")
    parser.add_argument("--fetch", help="s3:// prefix of an artifact to serve")
    for name in ("--model", "--model-version", "--sha256"):
        parser.add_argument(name, help="what is fetched")
    options = parser.parse_args(arguments)
    configure_logging()
    limits = Limits(body_bytes=options.max_body_mib << 20, rows=options.max_rows)
    lake = open_lake_files(options.lake_uri) if options.lake_uri else None
    inference_log = InferenceLog(lake, os.environ.get(SALT, "").encode()) if lake else None
    repository = Repository(
        options.models, limits.rows, inference_log, of_candidates=options.candidates, gpu=options.gpu
    )
    if options.fetch:
        try:
            policy = InferenceLogPolicy.model_validate_json(options.log_policy) if options.log_policy else None
            version = ServedVersion.of(options.model_version, options.sha256, policy, explain=options.explain)
            download_artifact(options.fetch, options.models, options.model, version, is_candidate=options.candidates)
            repository.load(options.model)
        except MlopsError as error:
            # A pod without its one version ends, so that whoever deploys it need not wait for it
            print(f"{options.model} is not served: {error}", file=sys.stderr)  # noqa: T201
            sys.exit(EXIT_REFUSED)
    else:
        repository.load_all()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(options, repository, limits, lake))


async def _serve(options: Namespace, repository: Repository, limits: Limits, lake: LakeFiles | None) -> None:
    state = ServerState(repository, limits)
    following = None
    if lake and not options.candidates:
        state.traffic = TrafficFollower(lake, repository)
        following = asyncio.create_task(state.traffic.follow())
    token = load_token(options.token_file) if options.token_file else None
    # Who listens everywhere is asked by names that only its callers know
    hosts = None if options.host in EVERYWHERE else (*LOCAL_HOSTS, options.host)
    grpc_server = None
    if options.grpc_port is not None:
        methods = Inference(state).methods
        grpc_server = await start_grpc_server(methods, state, options.host, options.grpc_port)

    async def stopped() -> None:
        if grpc_server:
            await grpc_server.stop(STOP_S)
        if following and state.traffic:
            following.cancel()
            await state.traffic.end()
        if repository.inference_log:
            await asyncio.to_thread(repository.inference_log.close)

    server = Server(Routes(state, hosts, token), options.host, options.port, options.drain, stopped)
    idle = asyncio.create_task(_end_when_idle(server, repository)) if options.candidates and not options.fetch else None
    await server.serve()
    if idle:
        idle.cancel()


async def _end_when_idle(server: Server, repository: Repository) -> None:
    """A server for candidates may have been started for a deployment that did not come."""
    since = time.monotonic()
    while time.monotonic() < since + IDLE_S:
        await asyncio.sleep(10)
        if repository.models:
            since = time.monotonic()
    server.should_exit = True


if __name__ == "__main__":
    main(sys.argv[1:])
