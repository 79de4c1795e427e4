"""trained_model: trains what the YAML names, from a checkpoint where one lies, and exports ONE ONNX graph."""

import signal
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from mlops_assets.assets.handles import Features, TrainedModel
from mlops_assets.assets.pod_template import worker_pods
from mlops_assets.assets.stage import StageReport, check, snapshot, stage, version_of
from mlops_assets.ml.class_source import class_source
from mlops_assets.ml.errors import TrainingError
from mlops_assets.ml.features.feature_set import FeatureSet
from mlops_assets.ml.inference.artifact import TOLERANCE, ModelSignature
from mlops_assets.ml.packaging.export import export
from mlops_assets.ml.training.learner import LearningCurve, TrainingRun
from mlops_assets.ml.training.learners import learner_for
from mlops_assets.spec.model_spec import ModelSpec, Train
from resources.kubernetes.step_pod import STOP, exit_now
from resources.kubernetes.training_jobs import TrainingJobs
from resources.kubernetes.training_worker import TrainingOrder
from resources.lake.lake import Lake
from resources.lake.lake_checkpoints import LakeCheckpoints
from resources.tracking.mlflow_tracking import Tracking
from resources.tracking.tracked_run import TrackedRun

CODE_VERSION = "4"
SPEED = "training_rows_per_second"  # of a network that was trained now, in this process


def trained_model_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """The artifact in a snapshot, beside what the learner keeps."""
    name = "trained_model"
    checks = [check(spec, name, "export_equals_training", "The exported graph answers as the trained model does")]

    @stage(
        spec,
        name,
        CODE_VERSION,
        TrainedModel,
        "features",
        kinds={"pytorch", "onnx"},
        description="One ONNX graph, raw columns to prediction",
        checks=checks,
    )
    def trained_model(
        context: dg.AssetExecutionContext,
        features: Features,
        lake: Lake,
        tracking: Tracking,
        training_jobs: TrainingJobs,
    ) -> StageReport:
        tracking.check(spec.model)
        config = spec.train.config
        version = version_of(CODE_VERSION, features.version, config.settings, class_source(config.classes))
        prefix = f"{spec.model}/{name}"
        checkpoints = LakeCheckpoints.of(lake.store, prefix, version)
        arrays = lake.fetch(features.prefix, features.version)

        speed = dict[str, float]()

        def work(folder: Path) -> None:
            if spec.train.compute.workers > 1 and training_jobs.available:
                train_in_parallel(spec, features, arrays, checkpoints, context, training_jobs)
            train(spec, arrays, folder, checkpoints, context.log.info, lambda rows: speed.update({SPEED: rows}))

        with snapshot(lake, context.log.info, prefix, version, work) as (folder, is_new):
            signature, curve = ModelSignature.read(folder), LearningCurve.read(folder)
        if is_new:
            checkpoints.clear()
        handle = TrainedModel(prefix=prefix, version=version, sha256=signature.sha256)
        with tracking.run(spec.model, context) as run:
            track(run, spec.train, handle, features, curve)
            run.metrics(speed)
        return report(handle, signature, curve, is_new=is_new, mlflow_run=run.url, speed=speed)

    return trained_model


def train(
    spec: ModelSpec,
    arrays: Path,
    folder: Path,
    checkpoints: LakeCheckpoints,
    log: Callable[[str], None],
    tell_speed: Callable[[float], None],
) -> None:
    """Fill the snapshot's folder: train in this process, from a checkpoint where one lies, and export."""
    learner = learner_for(spec.train.config, FeatureSet.read(arrays))
    with stop_signal() as stop_requested:
        run = TrainingRun(checkpoints, spec.train.checkpoint_every, stop_requested, log, tell_speed)
        learner.fit(arrays, folder, run).write(folder)
    export(spec.model, arrays, folder, learner)


def train_in_parallel(
    spec: ModelSpec,
    features: Features,
    arrays: Path,
    checkpoints: LakeCheckpoints,
    context: dg.AssetExecutionContext,
    training_jobs: TrainingJobs,
) -> None:
    """Train in several pods. They leave a checkpoint that is finished, which `train` then takes as the result."""
    if not learner_for(spec.train.config, FeatureSet.read(arrays)).trains_in_parallel:
        what = f"{spec.train.network} is no torch network, which several workers need"
        raise TrainingError(what, where="train.compute.workers", remedy="set workers to 1")
    order = TrainingOrder(
        features_prefix=features.prefix,
        features_version=features.version,
        checkpoints=checkpoints.prefix,
        checkpoint_every=spec.train.checkpoint_every,
        config=spec.train.config,
    )
    from mlops_assets.ml.training.training_loop import finished_training

    if not finished_training(checkpoints):
        with stop_signal() as stop_requested:
            training_jobs.train(context, order, worker_pods(spec), stop_requested)
        if not finished_training(checkpoints):
            raise TrainingError("The workers have ended without a result", remedy="materialize again")


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
            exit_now()


def track(run: TrackedRun, train: Train, handle: TrainedModel, features: Features, curve: LearningCurve) -> None:
    """Log hyperparameters, learning curve and origin to MLflow."""
    config = train.config.settings
    early_stopping = config.pop("early_stopping", None) or {}
    versions = {"features_version": features.version, "trained_model_version": handle.version}
    run.params(config | {f"early_stopping.{name}": value for name, value in early_stopping.items()} | versions)
    run.series([point.model_dump(exclude={"epoch"}) for point in curve.points], first_step=1)
    run.tags({"mlops.snapshot": f"{handle.prefix}/{handle.version}", "mlops.sha256": handle.sha256})


def report(
    handle: TrainedModel,
    signature: ModelSignature,
    curve: LearningCurve,
    *,
    is_new: bool,
    mlflow_run: str,
    speed: Mapping[str, float],
) -> StageReport:
    """Where the model is, and whether its graph answers as the trained model does."""
    difference = signature.export_difference
    return StageReport(
        handle,
        handle.version,
        metadata={
            "mlflow_run": dg.MetadataValue.url(mlflow_run),
            "epochs": len(curve.points),
            "trained": "now" if is_new else "skipped: this version exists already",
            "sha256": signature.sha256,
            "snapshot": f"{handle.prefix}/{handle.version}",
            **speed,
        },
        checks=[
            dg.AssetCheckResult(
                check_name="export_equals_training",
                passed=difference <= TOLERANCE,
                description=f"largest difference {difference:.2g}, allowed {TOLERANCE:.2g}",
                metadata={"max_abs_difference": difference},
            )
        ],
    )
