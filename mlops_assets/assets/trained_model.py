"""trained_model: trains the network or estimator, from a checkpoint where one lies, and exports ONE ONNX graph."""

import json
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from mlops_assets.assets.handles import Features, TrainedModel
from mlops_assets.assets.pods import worker_pods
from mlops_assets.assets.stage import check, read_json, snapshot, stage, told_clearly, version_of
from mlops_assets.ml.errors import TrainingError
from mlops_assets.ml.inference.artifact import ModelSignature
from mlops_assets.ml.networks import find, is_torch, source_digest
from mlops_assets.ml.packaging.export import export
from mlops_assets.ml.training.estimators import fit
from mlops_assets.ml.training.training_config import TrainingConfig
from mlops_assets.ml.training.training_loop import collect, train
from mlops_assets.spec.model_spec import ModelSpec
from resources.kubernetes.step_pod import STOP, leave
from resources.kubernetes.training_jobs import TrainingJobs
from resources.kubernetes.training_worker import TrainingOrder
from resources.lake.lake import Lake
from resources.lake.lake_checkpoints import LakeCheckpoints
from resources.tracking.mlflow_tracking import Tracking

CODE_VERSION = "1"


def build(spec: ModelSpec) -> dg.AssetsDefinition:
    """The asset for this model."""
    name = "trained_model"
    checks = [check(spec, name, "export_equals_training", "The exported graph answers as the trained model does")]

    @stage(
        spec,
        name,
        CODE_VERSION,
        TrainedModel,
        "features",
        checks=checks,
        description="One ONNX graph, raw columns to prediction",
    )
    def trained_model(
        context: dg.AssetExecutionContext,
        features: Features,
        lake: Lake,
        tracking: Tracking,
        training_jobs: TrainingJobs,
    ) -> dg.MaterializeResult:
        config = training_config(spec)
        version = version_of(CODE_VERSION, features.version, config, source_digest(config.network))
        place = f"{spec.model}/{name}"
        with told_clearly():
            source = lake.fetch(features.place, features.version)
            with snapshot(lake, context, place, version) as (folder, missing):
                if missing:
                    checkpoints = LakeCheckpoints(lake, f"{place}/{version}/checkpoints")
                    if spec.train.compute.workers > 1 and training_jobs.available:
                        train_together(spec, config, features, folder, checkpoints, context, training_jobs)
                    elif is_torch(find(config.network)):
                        train_here(spec, config, source, folder, checkpoints, context)
                    estimator = None if is_torch(find(config.network)) else fit(source, folder, config)
                    export(spec.model, source, folder, config, estimator)
                    for checkpoint in checkpoints.names():
                        checkpoints.delete(checkpoint)
                signature = read_json(ModelSignature, folder / "model.json")
                curve = json.loads((folder / "curve.json").read_text())
            with tracking.run(spec.model, context) as run:
                run.params(
                    config.model_dump() | {"features_version": features.version, "trained_model_version": version}
                )
                run.series([{key: point[key] for key in point if key != "epoch"} for point in curve], first_step=1)
                run.tags({"mlops.snapshot": f"{place}/{version}", "mlops.sha256": signature.sha256})
        difference = signature.export_difference
        return dg.MaterializeResult(
            value=TrainedModel(place=place, version=version, sha256=signature.sha256),
            data_version=dg.DataVersion(version),
            metadata={
                "mlflow_run": dg.MetadataValue.url(run.url),
                "epochs": len(curve),
                "trained": "now" if missing else "skipped: this version exists already",
                "sha256": signature.sha256,
                "snapshot": f"{place}/{version}",
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name="export_equals_training",
                    passed=difference <= signature.tolerance,
                    description=f"largest difference {difference:.2g}, allowed {signature.tolerance:.2g}",
                    metadata={"max_abs_difference": difference},
                )
            ],
        )

    return trained_model


def train_here(
    spec: ModelSpec,
    config: TrainingConfig,
    features: Path,
    folder: Path,
    checkpoints: LakeCheckpoints,
    context: dg.AssetExecutionContext,
) -> None:
    """Train a network in this process, from a checkpoint where one lies."""
    with stop_signal() as stop_requested:
        result = train(
            features,
            folder,
            config,
            checkpoints,
            checkpoint_every_s=spec.train.checkpoint_every.total_seconds(),
            say=context.log.info,
            stop_requested=stop_requested,
        )
    speed = f"{result.rows_per_second:,.0f} rows/s on {result.device}"
    context.log.info(f"best epoch {result.best_epoch} of {len(result.curve)}, {speed}")


def train_together(
    spec: ModelSpec,
    config: TrainingConfig,
    features: Features,
    folder: Path,
    checkpoints: LakeCheckpoints,
    context: dg.AssetExecutionContext,
    training_jobs: TrainingJobs,
) -> None:
    """Train a network in several pods, from a checkpoint where one lies."""
    if not is_torch(find(config.network)):
        raise TrainingError(f"{config.network} is no torch network, which several workers need; set workers to 1.")
    order = TrainingOrder(
        features_place=features.place,
        features_version=features.version,
        checkpoints=checkpoints.place,
        checkpoint_every=spec.train.checkpoint_every,
        config=config,
    )
    if not collect(checkpoints, folder):
        with stop_signal() as stop_requested:
            training_jobs.train(context, order, worker_pods(spec), stop_requested)
        if not collect(checkpoints, folder):
            raise TrainingError("The workers have ended without a result; materialize again.")


@contextmanager
def stop_signal() -> Generator[Callable[[], bool]]:
    """Whether this process was asked to go; it is only noted, so that a checkpoint can be written first.

    On SIGTERM the step fails after that. On STOP, which a step pod gets, the process ends without a word to Dagster.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {
        number: signal.signal(number, lambda number, _: asked.append(number)) for number in (signal.SIGTERM, STOP)
    }
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if STOP in asked:
            leave()


def training_config(spec: ModelSpec) -> TrainingConfig:
    """The part of the YAML that decides the weights."""
    train = spec.train
    return TrainingConfig(
        task=spec.task,
        network=train.network,
        params=train.params,
        epochs=train.epochs,
        batch_size=train.batch_size,
        learning_rate=train.learning_rate,
        schedule=train.schedule,
        weight_decay=train.weight_decay,
        patience=train.early_stopping.patience if train.early_stopping else None,
        min_delta=train.early_stopping.min_delta if train.early_stopping else 0.0,
        validation_share=train.validation,
        seed=train.seed,
    )
