"""The preprocessing: a scikit-learn ColumnTransformer, fitted on train rows, and the same as an ONNX graph."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.features.sklearn_to_onnx import to_onnx, with_single_output
from mlops_assets.ml.inference.artifact import INSIDE, tensor_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from mlops_assets.ml.data.contract import NamedColumn

MAX_CATEGORIES = 256
FEATURES = f"{INSIDE}features"


def fit_preprocessing(sample: pd.DataFrame, use: Sequence[NamedColumn], categories: dict[str, list[str]]) -> Any:
    """Fit a ColumnTransformer on `sample` (train rows with the numbers among `use`); its columns are c0, c1, ...

    Numbers and booleans: median for what is missing, then mean 0 and variance 1. Categories: one column for each of
    `categories`, which come from all train rows; any other value, a missing one too, has 0 in all of them.
    """
    import numpy as np
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    kind: Any = OneHotEncoder  # its stubs take the types of the defaults for the only ones

    numbers = [f"c{index}" for index, column in enumerate(use) if column.type != "category"]
    names = [f"c{index}" for index, column in enumerate(use) if column.type == "category"]
    parts = list[tuple[str, Any, list[str]]]()
    if numbers:
        scaled = Pipeline(
            [("missing", SimpleImputer(strategy="median", keep_empty_features=True)), ("scale", StandardScaler())]
        )
        parts.append(("number", scaled, numbers))
    if names:
        encoder = kind(
            categories=[categories[column.name] for column in use if column.type == "category"],
            handle_unknown="ignore",
            sparse_output=False,
            dtype="float32",
        )
        parts.append(("category", encoder, names))
    # To fit a ColumnTransformer is to transform as well, which takes the memory of all categories of all rows. They
    # are known already, so any two rows do for it, and the numbers are fitted by themselves.
    any_rows = pd.DataFrame({f"c{i}": ["", ""] if c.type == "category" else [0.0, 1.0] for i, c in enumerate(use)})
    transformer = ColumnTransformer(parts, verbose_feature_names_out=False).fit(any_rows)
    if numbers:
        _, pipeline, columns = transformer.transformers_[0]
        rows = sample[[column.name for column in use if column.type != "category"]].to_numpy("float32")
        missing = np.isnan(rows)
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # a column of missing values alone
            medians = np.nan_to_num(np.nanmedian(rows, axis=0))
        # The imputer's own median, by masked arrays, takes three times as long
        pipeline.named_steps["missing"].statistics_ = medians
        pipeline.named_steps["scale"].fit(np.where(missing, medians, rows))
        transformer.transformers_[0] = ("number", pipeline, columns)
        # A spread whose reciprocal float32 does not have is none, as scikit-learn says of a constant
        scale = pipeline.named_steps["scale"].scale_
        scale[scale < 1 / np.finfo(np.float32).max] = 1.0
    return transformer


def feature_names(use: Sequence[NamedColumn], categories: dict[str, list[str]]) -> tuple[str, ...]:
    """The names of the features in the order of the arrays: the columns' own, and `column_category`."""
    numbers = [column.name for column in use if column.type != "category"]
    texts = [column.name for column in use if column.type == "category"]
    return (*numbers, *(f"{name}_{category}" for name in texts for category in categories[name]))


def preprocessing_to_onnx(transformer: Any, use: Sequence[NamedColumn]) -> Any:
    """The fitted ColumnTransformer as an ONNX graph: an input (n, 1) for each column, the output `FEATURES` (n, d).

    Names of columns are those of inputs alone: inside, everything has a name that no column can have.
    """
    from onnx import compose, helper
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    kinds = {"category": StringTensorType}
    inputs = [(f"c{index}", kinds.get(column.type, FloatTensorType)([None, 1])) for index, column in enumerate(use)]
    model = with_single_output(to_onnx(transformer, "preprocessing", inputs), 0, "features")
    model = compose.add_prefix(model, INSIDE)
    nodes = list[Any]()
    for given, column in zip(model.graph.input, use, strict=True):
        nodes.append(helper.make_node("Identity", [tensor_name(column.name)], [given.name]))
        given.name = tensor_name(column.name)
    nodes.extend(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model
