"""trained_model: trains the network or estimator, resuming from a checkpoint where one lies, and exports ONE ONNX graph."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.assets.handles import Features, TrainedModel
from mlops_assets.assets.stage import check, read_json, snapshot, stage, told_clearly, version_of
from resources.environment import Environment
from resources.lake import Lake
from resources.tracking import Tracking

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlops_assets.ml.training import TrainingConfig
    from mlops_assets.pipeline.spec import ModelSpec

CODE_VERSION = "1"


def build(spec: ModelSpec) -> dg.AssetsDefinition:
    """The asset for this model."""
    name = "trained_model"
    checks = [check(spec, name, "export_equals_training", "The exported graph answers as the trained model does")]

    @dg.asset(**stage(spec, name, CODE_VERSION, "features", checks=checks), description="One ONNX graph, raw columns to prediction")
    def trained_model(
        context: dg.AssetExecutionContext, features: Features, lake: Lake, tracking: Tracking
    ) -> dg.MaterializeResult[TrainedModel]:
        from mlops_assets.ml.artifact import ModelSignature

        config = training_config(spec)
        version = version_of(CODE_VERSION, features.version, config)
        place = f"{spec.model}/{name}"
        with told_clearly():
            source = lake.fetch(features.place, features.version)
            with snapshot(lake, context, place, version) as (folder, missing):
                if missing:
                    fit_and_export(spec, config, source, folder, version, context)
                signature = read_json(ModelSignature, folder / "model.json")
                curve = read_curve(folder)
            with tracking.run(spec.model, context) as run:
                run.params(parameters(spec, features))
                if missing:
                    run.series(curve, first_step=1)
        difference = signature.export_difference
        return dg.MaterializeResult(
            value=TrainedModel(place=place, version=version, sha256=signature.sha256),
            data_version=dg.DataVersion(version),
            metadata={
                "mlflow_run": dg.MetadataValue.url(run.url),
                "epochs": len(curve),
                "skipped": not missing,
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


def training_config(spec: ModelSpec) -> TrainingConfig:
    """The part of the YAML that decides the weights."""
    from mlops_assets.ml.training import TrainingConfig

    train = spec.train
    return TrainingConfig(
        task=spec.task,
        network=train.network,
        params=train.params,
        epochs=train.epochs,
        batch_size=train.batch_size,
        learning_rate=train.learning_rate,
        weight_decay=train.weight_decay,
        patience=train.early_stopping.patience if train.early_stopping else None,
        min_delta=train.early_stopping.min_delta if train.early_stopping else 0.0,
        validation_share=train.validation,
        seed=train.seed,
    )
