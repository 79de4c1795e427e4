"""Requests per second of one row over 8 connections: ours, and the servers it is compared with.

Ours validates, counts, writes the inference log, and mirrors a tenth to a candidate in another process. MLServer is
compared where MLSERVER_PYTHON names the Python of an environment with `mlserver` and `onnxruntime`, which do not go
together with what we have.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bench.load import Load
from bench.measure import PROJECT, Result, in_turn, result, scratch, seconds
from mlops_assets.ml.data.contract import NamedColumn, Prepare, Target
from mlops_assets.ml.data.preparation import PreparationPlan
from mlops_assets.ml.data.prepare import prepare
from mlops_assets.ml.data.simulate import write_transactions
from mlops_assets.ml.features.feature_set import FeaturePlan, FeatureSet, build_features
from mlops_assets.ml.inference.onnx_model import OnnxModel
from mlops_assets.ml.packaging.export import export
from mlops_assets.ml.training.learner import TrainingRun
from mlops_assets.ml.training.learners import learner_for
from mlops_assets.ml.training.training_config import TrainingConfig
from mlops_assets.serving.declaration import Declaration, ServedVersion
from mlops_assets.serving.grpc_messages import SERVICE, pb
from mlops_assets.serving.log_policy import InferenceLogPolicy
from mlops_assets.serving.traffic import BEAT_S, Candidate, Observed, Traffic, observed_folder, traffic_key
from resources.lake.folder_store import FolderStore
from resources.lake.lake_checkpoints import LakeCheckpoints
from resources.local.background_server import BackgroundServer
from resources.tracking.mlflow_model import save_onnx

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from mlops_assets.ml.inference.artifact import ModelSignature

ROW = {"amount": 120.5, "user_age": 43.0, "transaction_hour": 14.0, "merchant_id": "m007"}
SECONDS = 4
CONNECTIONS = 8
GRPC = {"ours": 18111, "bare": 18113}
PATHS = {"v1": "/v1/models/bench:predict", "v2": "/v2/models/bench/infer"}


def artifact(folder: Path) -> tuple[Path, ModelSignature]:
    """A small network for transactions, exported."""
    write_transactions(folder / "rows.parquet", rows=20_000, seed=1)
    target = Target(column="is_fraud")
    used = tuple(NamedColumn(name=name, type="category" if name == "merchant_id" else "number") for name in ROW)
    columns = (*used, NamedColumn(name="is_fraud", type="boolean"))
    for name in ("prepared", "features", "out"):
        (folder / name).mkdir()
    report = prepare(
        [folder / "rows.parquet"],
        folder / "prepared",
        PreparationPlan(
            columns=columns, target=target, task="binary_classification", prepare=Prepare(), event_time=None
        ),
    )
    plan = FeaturePlan(
        use=used,
        target=target,
        task="binary_classification",
        classes=report.classes,
        validation_rows=report.validation_rows,
    )
    build_features(folder / "prepared", folder / "features", plan)
    config = TrainingConfig(network="mlops_assets.ml.networks.MLP", params={"hidden": [64, 32]}, epochs=2)
    learner = learner_for(config, FeatureSet.read(folder / "features"))
    run = TrainingRun(LakeCheckpoints(FolderStore(folder), "checkpoints"), timedelta(minutes=1))
    learner.fit(folder / "features", folder / "out", run)
    signature = export("bench", folder / "features", folder / "out", learner)
    (folder / "out/weights.safetensors").unlink()
    return folder / "out", signature


def servers(folder: Path, made: Path, signature: ModelSignature) -> Iterator[tuple[str, BackgroundServer]]:
    """Our server with a candidate beside it, and those it is compared with."""
    models = folder / "models"
    for version in ("1", "2"):
        shutil.copytree(made, models / "bench" / version)
    champion, candidate = (
        ServedVersion(folder=version, sha256=signature.sha256, version=version, log=InferenceLogPolicy())
        for version in ("1", "2")
    )
    Declaration(champion=champion, candidate=candidate).write(models / "bench")
    save_onnx(made, folder / "mlflow_model")
    ours = ["-m", "mlops_assets.serving.model_server", "--models", str(models), "--lake-uri", str(folder / "lake")]
    theirs = ["-m", "mlflow", "models", "serve", "-m", str(folder / "mlflow_model"), "--env-manager", "local"]
    live = "/v2/health/live"
    commands = {
        "ours": ([*ours, "--port", "18101", "--grpc-port", str(GRPC["ours"])], live),
        "candidate": ([*ours, "--candidates", "--port", "18102"], live),
        "bare": ([str(PROJECT / "bench/bare_server.py"), str(made / "model.onnx"), "18103", str(GRPC["bare"])], live),
        "mlflow": ([*theirs, "--port", "18104"], "/ping"),
        "empty": (["-m", "uvicorn", "bench.empty_server:answer", "--port", "18105", "--log-level", "warning"], "/"),
    }
    # MLflow starts the uvicorn that it finds on the PATH
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    variables = {"PYTHONPATH": str(PROJECT), "MLFLOW_DISABLE_TELEMETRY": "true", "PATH": path}
    for port, (name, (command, health)) in enumerate(commands.items(), start=18101):
        yield name, BackgroundServer(folder, name, port, health, [sys.executable, *command], variables)
    if python := os.environ.get("MLSERVER_PYTHON"):
        settings = {"http_port": 18106, "grpc_port": 18107, "metrics_port": 18108, "parallel_workers": 0}
        place = folder / "mlserver"
        place.mkdir()
        shutil.copyfile(PROJECT / "bench/mlserver_runtime.py", place / "mlserver_runtime.py")
        model = {
            "name": "bench",
            "implementation": "mlserver_runtime.OnnxRuntime",
            "parameters": {"uri": str(made / "model.onnx")},
        }
        (place / "settings.json").write_text(json.dumps({"debug": False, **settings}))
        (place / "model-settings.json").write_text(json.dumps(model))
        command = [python, "-c", "from mlserver.cli import main; main()", "start", str(place)]
        yield "mlserver", BackgroundServer(folder, "mlserver", 18106, live, command, variables)


@contextmanager
def mirrored(folder: Path, url: str) -> Generator[None]:
    """Have a tenth of the requests copied to the candidate while the block runs, as a roll-out does."""
    key, ended = folder / "lake" / traffic_key("bench"), threading.Event()
    key.parent.mkdir(parents=True)

    def watch_over() -> None:
        for beat in itertools.count():
            candidate = Candidate(version="2", url=url, mirrored=0.1)
            draft = key.with_suffix(".draft")
            draft.write_text(Traffic(id="bench", champion="1", candidate=candidate, beat=beat).model_dump_json())
            draft.replace(key)
            if ended.wait(BEAT_S):
                return

    thread = threading.Thread(target=watch_over)
    thread.start()
    try:
        seen = folder / "lake" / observed_folder("bench", "bench")
        while not seen.exists():
            time.sleep(0.1)
        yield
        found = [Observed.model_validate_json(file.read_text()) for file in seen.glob("*.json")]
        if not sum(one.mirrored for one in found):
            raise SystemExit("no request of the benchmark was mirrored")
    finally:
        ended.set()
        thread.join()


def load_of(url: str, body: bytes) -> Load:
    """What a server does under load, once every answer has been seen to be good."""
    command = [sys.executable, "-m", "bench.load", url, str(SECONDS), str(CONNECTIONS)]
    done = subprocess.run(command, cwd=PROJECT, input=body, capture_output=True, check=True)
    found = Load.model_validate_json(done.stdout)
    if found.errors:
        raise SystemExit(f"{url} refuses {found.errors} requests of the benchmark, such as: {found.example}")
    return found


def loads_in_turn(rounds: int, *targets: tuple[str, bytes]) -> list[Load]:
    """The medians of each target, which take turns."""
    found: list[list[Load]] = [[] for _ in targets]
    for _ in range(rounds):
        for place, (url, body) in zip(found, targets, strict=True):
            place.append(load_of(url, body))
    return [
        Load(
            requests_per_s=statistics.median(one.requests_per_s for one in loads),
            p50_ms=statistics.median(one.p50_ms for one in loads),
            p99_ms=statistics.median(one.p99_ms for one in loads),
            errors=0,
            example="",
        )
        for loads in found
    ]


def bodies() -> dict[str, bytes]:
    """One row in each protocol."""
    tensors = [
        {"name": name, "shape": [1, 1], "datatype": "BYTES" if isinstance(value, str) else "FP32", "data": [value]}
        for name, value in ROW.items()
    ]
    contents = {
        "v1": {"instances": [ROW]},
        "v2": {"inputs": tensors},
        "mlflow": {"inputs": {name: [[value]] for name, value in ROW.items()}},
    }
    return {name: json.dumps(content).encode() for name, content in contents.items()} | {"grpc": message()}


def message() -> bytes:
    """The same row over gRPC."""
    request = pb.ModelInferRequest(model_name="bench")
    for name, value in ROW.items():
        tensor = request.inputs.add(name=name, shape=[1, 1], datatype="BYTES" if isinstance(value, str) else "FP32")
        if isinstance(value, str):
            tensor.contents.bytes_contents.append(value.encode())
        else:
            tensor.contents.fp32_contents.append(value)
    return request.SerializeToString()


def one_row_us(made: Path) -> float:
    """Microseconds of the graph itself for one row."""
    model = OnnxModel((made / "model.onnx").read_bytes())
    arrays = {
        name: pd.Series([value]).to_numpy(object if isinstance(value, str) else np.float32).reshape(1, 1)
        for name, value in ROW.items()
    }

    def work() -> None:
        for _ in range(5_000):
            model.predict(arrays)

    work()
    return seconds(work) / 5_000 * 1e6


def rate(name: str, ours: Load, anchor: str, theirs: Load, wanted: float) -> Result:
    """Requests a second, with the median time of one."""
    name = f"{name} (median {ours.p50_ms:.2f} ms, anchor's {theirs.p50_ms:.2f} ms)"
    return result(name, ours.requests_per_s, "req/s", anchor, theirs.requests_per_s, goal=(">=", wanted, "x"))


def measure() -> list[Result]:
    """All figures of serving."""
    with scratch() as folder:
        made, signature = artifact(folder)
        [microseconds] = in_turn(3, lambda: one_row_us(made))
        results = [
            result("ONNX graph, one row", microseconds, "us", "", None, goal=("<=", 60, "us")),
            result(
                "ONNX graph against torch",
                signature.export_difference,
                "max abs",
                "",
                None,
                goal=("<=", 1e-6, "max abs"),
            ),
        ]
        running = dict(servers(folder, made, signature))
        try:
            urls = {name: server.ensure_running(180) for name, server in running.items()}
            with mirrored(folder, urls["candidate"]):
                results += compared(urls)
        finally:
            for server in running.values():
                server.stop()
    return results


def compared(urls: dict[str, str]) -> list[Result]:
    """Our server and the others, which take turns."""
    sent, results = bodies(), list[Result]()
    ours = {protocol: (urls["ours"] + path, sent[protocol]) for protocol, path in PATHS.items()}
    anchors = [
        ("V1", "v1", "bare kserve.Model", urls["bare"] + PATHS["v1"], sent["v1"], 3),
        ("V2", "v2", "bare kserve.Model", urls["bare"] + PATHS["v2"], sent["v2"], 4),
        ("V2", "v2", "mlflow models serve", urls["mlflow"] + "/invocations", sent["mlflow"], 5),
        ("V1", "v1", "uvicorn with an empty application", urls["empty"] + "/", sent["v1"], 0.3),
    ]
    method = f"{SERVICE}/ModelInfer"
    ours["grpc"], bare = ((f"grpc://127.0.0.1:{GRPC[name]}/{method}", sent["grpc"]) for name in ("ours", "bare"))
    anchors.append(("V2 over gRPC", "grpc", "bare kserve.Model", *bare, 1))
    if "mlserver" in urls:
        anchors.append(("V2", "v2", "MLServer with the same graph", urls["mlserver"] + PATHS["v2"], sent["v2"], 2))
    for called, protocol, anchor, url, body, wanted in anchors:
        theirs, found = loads_in_turn(5, (url, body), ours[protocol])
        name = f"serving {called}, one row, {CONNECTIONS} connections"
        results.append(rate(name, found, anchor, theirs, wanted))
        if anchor == "bare kserve.Model" and protocol != "grpc":
            percentile = f"{name}, 99th percentile"
            results.append(
                result(percentile, found.p99_ms, "ms", anchor, theirs.p99_ms, goal=("<=", 3, "ms"), better="less")
            )
    return results
