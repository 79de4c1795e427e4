"""A model's life from source files to served answers, by the functions of the stages: fast enough for any table."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from mlops_assets.assets import features as features_stage
from mlops_assets.assets import prepared_data as prepared_stage
from mlops_assets.assets import raw_data as raw_stage
from mlops_assets.assets.handles import PreparedData
from mlops_assets.ml.data.prepare import prepare
from mlops_assets.ml.data.source_checks import source_report
from mlops_assets.ml.errors import DataError, MlopsError
from mlops_assets.ml.evaluation.evaluate import evaluate
from mlops_assets.ml.features.feature_set import FeatureSet, build_features
from mlops_assets.ml.inference.artifact import TOLERANCE
from mlops_assets.ml.inference.onnx_model import to_frame
from mlops_assets.ml.packaging.export import export
from mlops_assets.ml.training.learner import TrainingRun
from mlops_assets.ml.training.learners import learner_for
from mlops_assets.serving.declaration import ServedVersion
from mlops_assets.serving.predictor import Predictor
from mlops_assets.spec.load_spec import load_spec
from resources.lake.folder_store import FolderStore
from resources.lake.lake import Lake
from resources.lake.lake_checkpoints import LakeCheckpoints

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_assets.ml.data.preparation import Preparation
    from mlops_assets.spec.model_spec import ModelSpec

REQUEST_ROWS = 20


class Life:
    """What became of a model: its reports, and what the server answered to rows of the test part."""

    preparation: Preparation
    features: FeatureSet
    metrics: dict[str, float]
    answers: list[Any]
    rows: list[dict[str, Any]]


def live(attributes: dict[str, Any], folder: Path) -> Life:
    """Go from the files in `folder`/lake to served answers, which must be those of the offline model.

    Raises:
        MlopsError: what a user is told where it cannot go on.
    """
    spec = load_spec(attributes, None, "defs.yaml")
    lake = Lake(uri=str(folder / "lake"), cache=str(folder / "cache"))
    life = Life()
    objects = raw_stage.list_objects(spec.source, lake, lambda _: None)
    sources = source_report(raw_stage.inspect(spec, lake, objects), spec.contract)
    window = raw_stage.used_window(spec.source, raw_stage.last_partition(spec.source, None, sources.last_event))
    prepared, arrays, artifact = folder / "prepared", folder / "features", folder / "artifact"
    for place in (prepared, arrays, artifact):
        place.mkdir()
    with lake.sources(spec.source.uri, objects) as paths:
        life.preparation = prepare(paths, prepared, prepared_stage.preparation_plan(spec), window=window)
    for result in (
        prepared_stage.contract_check(life.preparation),
        prepared_stage.dropped_rows_check(life.preparation, spec.prepare),
    ):
        _passed(result)
    handle = PreparedData.model_construct(
        classes=life.preparation.classes, validation_rows=life.preparation.validation_rows
    )
    plan = features_stage.feature_plan(spec, handle)
    life.features = build_features(prepared, arrays, plan)
    _passed(features_stage.finite_check(life.features.non_finite))
    learner = learner_for(spec.train.config, life.features)
    learner.fit(arrays, artifact, TrainingRun(LakeCheckpoints(FolderStore(artifact), "c"), timedelta(minutes=1)))
    signature = export(spec.model, arrays, artifact, learner)
    if signature.export_difference > TOLERANCE:
        raise DataError(f"The graph answers differently than the trained model, by {signature.export_difference}")
    report, predictions = evaluate(
        artifact, signature.sha256, prepared, target=spec.target.column, slices=spec.gate.slices
    )
    report.write(artifact)
    assert type(report).read(artifact).rows == report.rows
    (artifact / report.FILE).unlink()
    life.metrics = report.metrics
    _answer(spec, life, artifact, signature.sha256, prepared, predictions.scores)
    return life


def _passed(result: Any) -> None:
    if not result.passed:
        raise DataError(result.description)


def _answer(spec: ModelSpec, life: Life, artifact: Path, sha256: str, prepared: Path, scores: Any) -> None:
    """Ask a predictor about rows of the test part, by V1 and by V2."""
    for file in artifact.iterdir():
        if file.name not in ("model.onnx", "model.json"):
            file.unlink()
    predictor = Predictor(spec.model, ServedVersion.of(1, sha256), artifact)
    columns = predictor.signature.inputs
    frame = to_frame(pq.read_table(prepared / "test.parquet", columns=None).slice(0, REQUEST_ROWS))
    life.rows = [{column.name: _json(row[column.name]) for column in columns} for row in frame.to_dict("records")]
    wanted = scores[: len(life.rows)]
    life.answers = ask(predictor, "v1", {"instances": life.rows})["predictions"]
    tensors = [
        {
            "name": column.name,
            "shape": [len(life.rows), 1],
            "datatype": column.datatype,
            "data": [row[column.name] for row in life.rows],
        }
        for column in columns
    ]
    outputs = {output["name"]: output for output in ask(predictor, "v2", {"inputs": tensors})["outputs"]}
    if spec.task == "regression":
        served, by_v2 = np.asarray(life.answers), np.asarray(outputs["prediction"]["data"])
    else:
        served = np.asarray([answer["probabilities"] for answer in life.answers])
        by_v2 = np.asarray(outputs["probabilities"]["data"]).reshape(served.shape)
        classes = [int(c) if isinstance(c, bool) else c for c in life.preparation.classes or ()]
        labels = [answer["label"] for answer in life.answers]
        assert labels == [classes[index] for index in served.argmax(axis=1)] == outputs["label"]["data"]
        assert ((served >= 0) & (served <= 1)).all()
    scale = max(1.0, float(np.abs(wanted).max()))
    assert np.abs(served - wanted).max() <= 1e-5 * scale
    assert np.abs(by_v2 - wanted).max() <= 1e-5 * scale


def ask(predictor: Predictor, protocol: str, content: dict[str, Any]) -> dict[str, Any]:
    """The predictor's response to a request, as a client sends and gets it."""
    answer = predictor.predict_v1 if protocol == "v1" else predictor.predict_v2
    return json.loads(answer(json.dumps(content).encode(), None).body)


def _json(value: Any) -> Any:
    if value is None or value == "" or (isinstance(value, float) and np.isnan(value)):
        return None
    return value if isinstance(value, str) else float(value)


def refusal(attributes: dict[str, Any], folder: Path) -> str | None:
    """What a user is told, or None where the model is served."""
    try:
        live(attributes, folder)
    except MlopsError as error:
        return str(error)
    return None
