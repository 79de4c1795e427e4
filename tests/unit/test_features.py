"""Features, and the two promises of the export: the ONNX graph answers as scikit-learn and as torch do."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.ml.data.contract import NamedColumn, Prepare, Target
from mlops_assets.ml.data.prepare import PreparationPlan, prepare
from mlops_assets.ml.errors import TrainingError
from mlops_assets.ml.features.feature_set import FeaturePlan, FeatureSet, build_features, load_arrays
from mlops_assets.ml.features.leakage import find_leakage
from mlops_assets.ml.features.preprocessing import fit_preprocessing, preprocessing_to_onnx
from mlops_assets.ml.inference.artifact import TRAINING_FILES, load_artifact
from mlops_assets.ml.inference.onnx_model import OnnxModel, to_model_inputs
from mlops_assets.ml.packaging.export import export
from mlops_assets.ml.training.training_config import TrainingConfig
from tests.support import fit, weather

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_assets.ml.values import Task

USED = (
    NamedColumn(name="place", type="category", nullable=True),
    NamedColumn(name="pressure", type="number"),
    NamedColumn(name="humidity", type="number", nullable=True),
)
texts = st.one_of(st.text(max_size=8), st.sampled_from(["Bern", "Zürich", "", "東京", "a b"]))
numbers = st.floats(-1e6, 1e6, width=32)


def prepared(folder: Path, frame: pd.DataFrame, task: Task, target: Target) -> tuple[Path, FeaturePlan]:
    """Prepare the frame and build its features; give the folder of both and the plan."""
    kinds = {"place": "category", "pressure": "number", "humidity": "number"}
    columns = [
        NamedColumn(name=name, type=kinds.get(name, "number"), nullable=name == "humidity") for name in frame.columns
    ]  # pyright: ignore[reportArgumentType]
    source = folder / "source.parquet"
    frame.to_parquet(source)
    out = folder / "prepared"
    out.mkdir()
    report = prepare(
        [source],
        out,
        PreparationPlan(columns=tuple(columns), target=target, task=task, prepare=Prepare(), event_time=None),
    )
    used = tuple(column for column in columns if column.name in kinds)
    plan = FeaturePlan(use=used, target=target, task=task, classes=report.classes)
    features = folder / "features"
    features.mkdir()
    build_features(out, features, plan)
    return out, plan


@settings(max_examples=25, deadline=None)
@given(
    known=st.lists(st.tuples(texts, numbers, st.one_of(st.just(np.nan), numbers)), min_size=3, max_size=30),
    new=st.lists(st.tuples(texts, numbers, st.one_of(st.just(np.nan), numbers)), min_size=1, max_size=20),
)
def test_the_preprocessing_graph_equals_scikit_learn(known: list[Any], new: list[Any]) -> None:
    names = [column.name for column in USED]
    sample = pd.DataFrame(known, columns=names).astype({"pressure": "float32", "humidity": "float32"})
    rows = pd.DataFrame(new, columns=names).astype({"pressure": "float32", "humidity": "float32"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a column without any value
        transformer = fit_preprocessing(sample, USED, {"place": sorted({text for text, *_ in known if text}) or [""]})
        wanted = np.asarray(transformer.transform(rows), dtype=np.float64)
    session = onnxruntime.InferenceSession(preprocessing_to_onnx(transformer, USED).SerializeToString())
    arrays = {
        "place": rows.place.to_numpy(dtype=object).reshape(-1, 1),
        "pressure": rows.pressure.to_numpy().reshape(-1, 1),
        "humidity": rows.humidity.to_numpy().reshape(-1, 1),
    }
    [found] = session.run(["features"], arrays)
    scale = np.maximum(1.0, np.abs(wanted))
    assert np.max(np.abs(found - wanted) / scale) < 1e-4


NETWORKS = [
    ("regression", "mlops_assets.ml.networks.MLP"),
    ("binary_classification", "mlops_assets.ml.networks.MLP"),
    ("multiclass_classification", "mlops_assets.ml.networks.MLP"),
    ("regression", "sklearn.linear_model.Ridge"),
    ("regression", "sklearn.ensemble.HistGradientBoostingRegressor"),
    ("binary_classification", "sklearn.ensemble.RandomForestClassifier"),
    ("binary_classification", "sklearn.linear_model.LogisticRegression"),
    ("multiclass_classification", "sklearn.ensemble.GradientBoostingClassifier"),
    ("multiclass_classification", "sklearn.neural_network.MLPClassifier"),
]
TARGETS = {
    "regression": Target(column="score", from_="pressure * 3 + coalesce(humidity, 50)"),
    "binary_classification": Target(column="low", from_="pressure + humidity / 10 < 1018"),
    "multiclass_classification": Target(
        column="band", from_="CASE WHEN pressure < 1005 THEN 'low' WHEN pressure < 1020 THEN 'mid' ELSE 'high' END"
    ),
}


@pytest.mark.parametrize(("task", "network"), NETWORKS)
def test_the_exported_graph_equals_what_was_trained(tmp_path: Path, task: Task, network: str) -> None:
    frame = weather(600).drop(columns="rain")
    prepared(tmp_path, frame, task, TARGETS[task])
    features, out = tmp_path / "features", tmp_path / "out"
    config = TrainingConfig(network=network, params={"hidden": [8]} if "networks" in network else {}, epochs=2)
    signature = export("weather", features, out, fit(features, out, config))
    assert signature.export_difference < 1e-5
    graph, _ = load_artifact(out, signature.sha256, beside=TRAINING_FILES | {"checkpoints"})
    given = OnnxModel(graph).predict(to_model_inputs(frame, signature.inputs))
    assert len(next(iter(given.values()))) == 600
    if task != "regression":
        np.testing.assert_allclose(given["probabilities"].sum(axis=1), 1, atol=1e-5)
        assert signature.classes is not None
        labels = np.array([signature.classes[index] for index in given["probabilities"].argmax(axis=1)])
        assert (labels.astype(given["label"].dtype) == given["label"]).all()


@settings(max_examples=15, deadline=None)
@given(
    hidden=st.lists(st.integers(1, 32), min_size=0, max_size=3),
    width=st.integers(1, 12),
    outputs=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_any_mlp_exports_to_a_graph_that_equals_torch(hidden: list[int], width: int, outputs: int, seed: int) -> None:
    import torch

    from mlops_assets.ml.networks import MLP

    torch.manual_seed(seed)
    network = MLP(width, outputs, hidden, dropout=0.3).eval()
    program = torch.onnx.export(
        network,
        (torch.zeros(2, width),),
        dynamo=True,
        input_names=["features"],
        output_names=["scores"],
        dynamic_shapes=({0: torch.export.Dim("rows")},),
        verbose=False,
    )
    assert program is not None
    x = torch.randn(7, width)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    [found] = session.run(["scores"], {"features": x.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(found, network(x).numpy(), atol=1e-5)


def test_the_arrays_hold_what_the_preprocessing_gives(tmp_path: Path) -> None:
    out, _ = prepared(tmp_path, weather(600).drop(columns="rain"), "regression", TARGETS["regression"])
    made = FeatureSet.model_validate_json((tmp_path / "features/features.json").read_bytes())
    x, y = load_arrays(tmp_path / "features", "train")
    rows = pd.read_parquet(out / "train.parquet")
    assert x.shape == (made.train_rows, len(made.feature_names))
    assert x.dtype == np.float32
    np.testing.assert_allclose(y, rows.score)
    np.testing.assert_allclose(x[:, made.feature_names.index("place_Bern")], rows.place == "Bern")
    pressure = x[:, made.feature_names.index("pressure")]
    assert abs(float(pressure.mean())) < 1e-3
    assert float(pressure.std()) == pytest.approx(1, abs=1e-3)


def test_statistics_come_from_the_train_part_alone(tmp_path: Path) -> None:
    out, plan = prepared(tmp_path, weather(600).drop(columns="rain"), "regression", TARGETS["regression"])
    before = (tmp_path / "features/preprocessing.onnx").read_bytes()
    test = pd.read_parquet(out / "test.parquet")
    test.assign(pressure=test.pressure * 1000).to_parquet(out / "test.parquet")
    again = tmp_path / "again"
    again.mkdir()
    build_features(out, again, plan)
    assert (again / "preprocessing.onnx").read_bytes() == before


LEAKS = {
    "the target itself": lambda frame: frame.low,
    "the target scaled": lambda frame: frame.low * 7 - 3,
    "a threshold away": lambda frame: frame.low * 5 + np.random.default_rng(0).uniform(0, 1, len(frame)),
}


@pytest.mark.parametrize("made", LEAKS.values(), ids=LEAKS)
def test_a_feature_that_gives_the_target_away_is_found(tmp_path: Path, made: Any) -> None:
    frame = weather(1_000)
    frame = frame.assign(low=frame.rain.astype(float)).drop(columns="rain")
    frame["humidity"] = made(frame)
    out, plan = prepared(tmp_path, frame, "binary_classification", Target(column="low"))
    [leak] = find_leakage(out, plan).leaks
    assert leak.feature == "humidity"
    assert "Remove it from features.use" in leak.message


def test_a_good_feature_is_no_leak(tmp_path: Path) -> None:
    frame = weather(1_000)
    frame = frame.assign(low=frame.rain.astype(float)).drop(columns="rain")
    out, plan = prepared(tmp_path, frame, "binary_classification", Target(column="low"))
    assert find_leakage(out, plan).leaks == ()


def test_a_network_that_does_not_exist(tmp_path: Path) -> None:
    prepared(tmp_path, weather().drop(columns="rain"), "regression", TARGETS["regression"])
    for network, message in (
        ("mlops_assets.ml.networks.RNN", "cannot be imported"),
        ("sklearn.linear_model.ridge_regression", "is no class"),
        ("sklearn.preprocessing.StandardScaler", "has no predict"),
    ):
        config = TrainingConfig(network=network)
        with pytest.raises(TrainingError, match=message):
            fit(tmp_path / "features", tmp_path, config)


def test_params_that_do_not_fit(tmp_path: Path) -> None:
    prepared(tmp_path, weather().drop(columns="rain"), "regression", TARGETS["regression"])
    config = TrainingConfig(network="sklearn.linear_model.Ridge", params={"alpa": 1})
    with pytest.raises(TrainingError, match=r"train\.params: they do not fit Ridge"):
        fit(tmp_path / "features", tmp_path, config)
