"""Hypothesis strategies for whole tables: names, types, classes, files and dialects as users have them."""

from __future__ import annotations

import datetime as dt
import decimal
import gzip
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

if TYPE_CHECKING:
    from pathlib import Path

# What SQL, ONNX, Python, JSON, our code or a spreadsheet may take for something of their own
NAMES = [
    "sepal length (cm)",
    "a.b",
    "a-b",
    "x y",
    "größe",
    "日本語",
    "Stückzahl [n]",
    'say "hi"',
    "o'Brien",
    "100%",
    "a,b",
    "a;b",
    "features",
    "label",
    "probabilities",
    "prediction",
    "scores",
    "positive",
    "negative",
    "classes",
    "class_index",
    "variable",
    "input",
    "output",
    "mlops/features",
    "column:label",
    "column:x",
    "c0",
    "c1",
    "C2",
    "y",
    "k",
    "g",
    "key",
    "n",
    "id",
    "index",
    "position",
    "part",
    "rowid",
    "labelled",
    "kept",
    "filename",
    "file_row_number",
    "__target",
    "__key",
    "select",
    "ORDER",
    "group",
    "true",
    "null",
    "*",
    "#",
    "$a",
    "{x}",
    "%s",
    "\\n",
    "2019",
    "1e3",
    "-1",
    " lead",
    "trail ",
    "é",
    "🙂",
    "__class__",
    "self",
    "name",
    "values",
    "T",
    "shape",
]
TEXTS = [
    "north",
    "south",
    "Genève",
    "",
    "NA",
    "None",
    "null",
    " a",
    "a ",
    'say "hi"',
    "a,b",
    "a\nb",
    "0",
    "1.0",
    "東京",
    "x" * 300,
]


@dataclass
class Table:
    """Files in a folder, and the YAML of a model on them."""

    frame: pd.DataFrame
    schema: pa.Schema
    attributes: dict[str, Any]
    files: int
    suffix: str
    csv: dict[str, Any]
    absent: str | None
    """A nullable column that the first of several files lacks."""

    def write(self, folder: Path) -> None:
        """Write the source files."""
        folder.mkdir(parents=True)
        for index in range(self.files):
            part = self.frame.iloc[index :: self.files]
            if index == 0 and self.files > 1 and self.absent is not None:
                part = part.drop(columns=[self.absent])
            path = folder / f"{index:02d}.{self.suffix}"
            if self.suffix == "parquet":
                schema = pa.schema([self.schema.field(name) for name in part.columns])
                pq.write_table(pa.Table.from_pandas(part, schema=schema, preserve_index=False), path)
                continue
            options = {"sep": self.csv.get("delimiter", ","), "decimal": self.csv.get("decimal", "."), "index": False}
            content = part.to_csv(**options).encode(self.csv.get("encoding", "utf-8"), errors="replace")
            path.write_bytes(gzip.compress(content) if self.suffix.endswith("gz") else content)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """A table of one to six columns beside its target."""
    rows = draw(st.sampled_from([40, 80, 150]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    suffix = draw(st.sampled_from(["parquet", "csv", "csv.gz"]))
    text = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=12)
    names = draw(
        st.lists(
            st.one_of(st.sampled_from(NAMES), text), min_size=2, max_size=7, unique_by=lambda name: name.casefold()
        )
    )
    frame, fields, columns = {}, [], {}
    for name in names[1:]:
        kind = draw(st.sampled_from(["number", "number", "category", "category", "boolean", "timestamp"]))
        kinds = _MISFITS if draw(st.integers(0, 24)) == 24 else _VALUES
        values, field_type = draw(st.sampled_from(kinds[kind]))(random, rows)
        nullable = draw(st.booleans())
        if nullable or draw(st.integers(0, 7)) == 7:
            gaps = random.random(rows) < draw(st.sampled_from([0.02, 0.1, 0.6] if nullable else [0.02, 0.2]))
            values = [None if gap else value for gap, value in zip(gaps, values, strict=True)]
        frame[name] = values
        fields.append(pa.field(name, field_type))
        columns[name] = {"type": kind, "nullable": nullable}
    target = names[0]
    task = draw(st.sampled_from(["binary_classification", "multiclass_classification", "regression"]))
    used = [name for name, column in columns.items() if column["type"] != "timestamp"]
    values, field_type, kind = draw(st.sampled_from(_TARGETS[task]))(random, rows, _signal(frame, used, rows))
    frame[target] = values
    fields.append(pa.field(target, field_type))
    columns[target] = {"type": kind}
    csv = {}
    if suffix != "parquet":
        csv = draw(
            st.sampled_from(
                [
                    {},
                    {"delimiter": ";"},
                    {"delimiter": ";", "decimal": ","},
                    {"delimiter": "\t"},
                    {"delimiter": "|"},
                    {"encoding": "utf-16"},
                ]
            )
        )
    optional = [name for name in used if columns[name]["nullable"]]
    split = draw(st.sampled_from([{}, {"seed": 7}, {"test": 0.4, "validation": 0.3}]))
    attributes = {
        "model": "generated",
        "task": task,
        "source": {"uri": f"t/*.{suffix}", **({"csv": csv} if csv else {})},
        "target": {"column": target},
        "columns": columns,
        "prepare": {
            "drop_nulls": draw(st.booleans()),
            "drop_duplicates": draw(st.booleans()),
            "max_dropped": 0.9,
            "split": split,
        },
        "features": {"use": used},
        "train": {
            "network": "sklearn.linear_model.Ridge"
            if task == "regression"
            else draw(
                st.sampled_from(["sklearn.linear_model.LogisticRegression", "sklearn.tree.DecisionTreeClassifier"])
            )
        },
        "gate": {"metric": "rmse", "at_most": 1e300}
        if task == "regression"
        else {"metric": "log_loss", "at_most": 1e9},
    }
    return Table(
        frame=pd.DataFrame(frame, dtype=object),
        schema=pa.schema(fields),
        attributes=attributes,
        files=draw(st.sampled_from([1, 1, 2, 5, 50])),
        suffix=suffix,
        csv=csv,
        absent=draw(st.sampled_from([*optional, None])),
    )


def _signal(frame: dict[str, Any], used: list[str], rows: int) -> Any:
    """Something of the features, so that there is something to learn."""
    total = np.zeros(rows)
    for name in used:
        codes, _ = pd.factorize(pd.Series(frame[name], dtype=object).map(str))
        total += codes % 7
    return total


_numbers: list[Any] = [
    lambda r, n: (r.integers(-100, 100, n).tolist(), pa.int64()),
    lambda r, n: (r.integers(0, 200, n).tolist(), pa.uint8()),
    lambda r, n: ((r.integers(0, 10**9, n) + 1_700_000_000).tolist(), pa.int64()),
    lambda r, n: (r.normal(0, 1, n).tolist(), pa.float64()),
    lambda r, n: (r.normal(0, 1e-6, n).astype("f4").tolist(), pa.float32()),
    lambda r, n: (np.round(r.normal(0, 1, n), 0).tolist(), pa.float64()),  # -0.0
    lambda r, n: ([decimal.Decimal(int(v)) / 100 for v in r.integers(0, 9999, n)], pa.decimal128(9, 2)),
    lambda r, n: ([5] * n, pa.int32()),
    lambda r, n: (list(range(n)), pa.int64()),
    lambda r, n: (np.where(r.random(n) < 0.1, np.nan, r.normal(size=n)).tolist(), pa.float64()),
    lambda r, n: ([str(v) for v in r.integers(0, 9, n)], pa.string()),
    lambda r, n: ((r.random(n) < 0.5).tolist(), pa.bool_()),
]
_categories: list[Any] = [
    lambda r, n: (r.choice(TEXTS, n).tolist(), pa.string()),
    lambda r, n: (r.choice(["a", "b"], n).tolist(), pa.dictionary(pa.int32(), pa.string())),
    lambda r, n: (r.choice(["a", "b"], n).tolist(), pa.large_string()),
    lambda r, n: (r.integers(0, 4, n).tolist(), pa.int16()),
    lambda r, n: (r.integers(0, 4, n).astype(float).tolist(), pa.float64()),
    lambda r, n: ((r.random(n) < 0.5).tolist(), pa.bool_()),
    lambda r, n: ([f"u{v}" for v in r.integers(0, 10**6, n)], pa.string()),
    lambda r, n: ([v.encode() for v in r.choice(["a", "é"], n)], pa.binary()),
]
_booleans: list[Any] = [
    lambda r, n: ((r.random(n) < 0.5).tolist(), pa.bool_()),
    lambda r, n: (r.integers(0, 2, n).tolist(), pa.int8()),
    lambda r, n: (r.integers(0, 2, n).astype(float).tolist(), pa.float64()),
    lambda r, n: (r.choice(["yes", "no"], n).tolist(), pa.string()),
    lambda r, n: (r.choice(["T", "F"], n).tolist(), pa.string()),
]
_timestamps: list[Any] = [
    lambda r, n: (pd.to_datetime(r.integers(0, 10**9, n), unit="s").to_pydatetime().tolist(), pa.timestamp("us")),
    lambda r, n: (
        pd.to_datetime(r.integers(0, 10**9, n), unit="s").to_pydatetime().tolist(),
        pa.timestamp("ns", "UTC"),
    ),
    lambda r, n: ([dt.date(2025, 1, int(v)) for v in r.integers(1, 28, n)], pa.date32()),
    lambda r, n: ([f"2025-01-{v:02d}T10:00:00+02:00" for v in r.integers(1, 28, n)], pa.string()),
]
# What no contract lets through
_MISFITS: dict[str, list[Any]] = {
    "number": [
        lambda r, n: ([None] * (n - 1) + [1.0], pa.float64()),
        lambda r, n: (np.where(r.random(n) < 0.02, np.inf, r.normal(size=n)).tolist(), pa.float64()),
        lambda r, n: ((r.normal(size=n) * 1e39).tolist(), pa.float64()),
        lambda r, n: (["many"] * n, pa.string()),
        lambda r, n: ([dt.timedelta(seconds=int(v)) for v in r.integers(0, 9, n)], pa.duration("us")),
        lambda r, n: ([[1, 2]] * n, pa.list_(pa.int64())),
    ],
    "category": [
        lambda r, n: (r.normal(size=n).tolist(), pa.float64()),
        lambda r, n: ([{"a": 1}] * n, pa.struct([("a", pa.int64())])),
    ],
    "boolean": [
        lambda r, n: (r.integers(-1, 2, n).tolist(), pa.int8()),
    ],
    "timestamp": [
        lambda r, n: (["yesterday"] * n, pa.string()),
    ],
}
_VALUES = {"number": _numbers, "category": _categories, "boolean": _booleans, "timestamp": _timestamps}


def _classes(values: list[Any], field_type: Any, kind: str) -> Any:
    def made(random: Any, rows: int, signal: Any) -> Any:
        noisy = pd.Series(signal + random.normal(0, 0.5, rows)).rank(method="first", pct=True)
        index = np.minimum((noisy * len(values)).astype(int), len(values) - 1)
        return [values[i] for i in index], field_type, kind

    return made


def _number(scale: float, offset: float, field_type: Any) -> Any:
    def made(random: Any, rows: int, signal: Any) -> Any:
        values = offset + scale * (signal + random.normal(0, 1, rows))
        whole = pa.types.is_integer(field_type)
        return [int(v) if whole else float(v) for v in values], field_type, "number"

    return made


_two: list[Any] = [
    _classes([False, True], pa.bool_(), "boolean"),
    _classes([0, 1], pa.int8(), "boolean"),
    _classes([0, 1], pa.int64(), "number"),
    _classes(["legit", "fraud"], pa.string(), "category"),
    _classes(["no", "YES"], pa.string(), "category"),
    _classes([0.5, 1.5], pa.float64(), "number"),
    _classes([1.0, 2.0], pa.float64(), "category"),
    _classes([20250101, 20250102], pa.int64(), "number"),
    _classes([-(2**62), 2**62], pa.int64(), "number"),
    _classes([decimal.Decimal("0.10"), decimal.Decimal("0.20")], pa.decimal128(5, 2), "number"),
]
_more: list[Any] = [
    _classes(["a", "b", "c"], pa.string(), "category"),
    _classes([3, 1, 2], pa.int32(), "number"),
    _classes(["1", "02", "x"], pa.string(), "category"),
    _classes([0.1, 0.2, 0.3], pa.float64(), "number"),
    _classes([f"k{i}" for i in range(30)], pa.string(), "category"),
    _classes([20000001, 20000002, 20000003], pa.int64(), "number"),
    *_two[:3],
    _classes(["only"], pa.string(), "category"),
]
_real: list[Any] = [
    _number(1, 0, pa.float64()),
    _number(1e6, -3e6, pa.float64()),
    _number(1e-6, 0, pa.float32()),
    _number(10, 100, pa.int64()),
    _number(60, 1.7e9, pa.int64()),
    _number(0, 5, pa.float64()),
]
_TARGETS = {"binary_classification": _two, "multiclass_classification": _more, "regression": _real}
