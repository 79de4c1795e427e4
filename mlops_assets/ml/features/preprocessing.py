"""The preprocessing: a scikit-learn ColumnTransformer, fitted on train rows, and the same as an ONNX graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops_assets.ml.features.sklearn_to_onnx import to_onnx, with_single_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from mlops_assets.ml.data.contract import NamedColumn

MAX_CATEGORIES = 256


def fit_preprocessing(sample: pd.DataFrame, use: Sequence[NamedColumn], categories: dict[str, list[str]]) -> Any:
    """Fit a ColumnTransformer on `sample` (train rows, one column for each of `use`).

    Numbers and booleans: median for what is missing, then mean 0 and variance 1. Categories: one column for each of
    `categories`, which come from all train rows; any other value, a missing one too, has 0 in all of them.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    kind: Any = OneHotEncoder  # its stubs take the types of the defaults for the only ones

    numbers = [column.name for column in use if column.type != "category"]
    names = [column.name for column in use if column.type == "category"]
    parts = list[tuple[str, Any, list[str]]]()
    if numbers:
        scaled = Pipeline(
            [("missing", SimpleImputer(strategy="median", keep_empty_features=True)), ("scale", StandardScaler())]
        )
        parts.append(("number", scaled, numbers))
    if names:
        encoder = kind(
            categories=[categories[name] for name in names],
            handle_unknown="ignore",
            sparse_output=False,
            dtype="float32",
        )
        parts.append(("category", encoder, names))
    return ColumnTransformer(parts, verbose_feature_names_out=False).fit(sample)


def preprocessing_to_onnx(transformer: Any, use: Sequence[NamedColumn]) -> Any:
    """The fitted ColumnTransformer as an ONNX graph: an input (n, 1) for each column, the output `features` (n, d)."""
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    kinds = {"category": StringTensorType}
    inputs = [(column.name, kinds.get(column.type, FloatTensorType)([None, 1])) for column in use]
    return with_single_output(to_onnx(transformer, "preprocessing", inputs), 0, "features")
