"""Raw rows to train and test rows: what is kept, what is dropped, and what stops the pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.ml.data.contract import NamedColumn, Prepare, Split, Target
from mlops_assets.ml.data.prepare import Preparation, PreparationPlan, prepare
from mlops_assets.ml.data.source_checks import check_sources
from mlops_assets.ml.errors import DataError
from tests.support import weather

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = (
    NamedColumn(name="place", type="category"),
    NamedColumn(name="pressure", type="number", min=900, max=1100),
    NamedColumn(name="humidity", type="number", nullable=True),
    NamedColumn(name="rain", type="boolean"),
)
PLAN = PreparationPlan(
    columns=COLUMNS, target=Target(column="rain"), task="binary_classification", prepare=Prepare(), event_time=None
)


def plan(**changed: Any) -> PreparationPlan:
    return PLAN.model_copy(update=changed)


def run(folder: Path, frames: list[pd.DataFrame], used: PreparationPlan = PLAN, suffix: str = "parquet") -> Preparation:
    """Write each frame as a source file and prepare them; the parts lie in `folder`/out."""
    paths = []
    for index, frame in enumerate(frames):
        path = folder / f"{index}.{suffix}"
        frame.to_parquet(path) if suffix == "parquet" else frame.to_csv(path, index=False)
        paths.append(path)
    out = folder / "out"
    out.mkdir(exist_ok=True)
    return prepare(paths, out, used)


def part(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(folder / "out" / f"{name}.parquet")


rows = st.lists(
    st.tuples(
        st.sampled_from(["Bern", "Genève", "", "o'Brien", 'say "hi"', "a,b", "\x01"]),
        st.floats(900, 1100, width=32),
        st.one_of(st.none(), st.floats(0, 100, width=32)),
        st.booleans(),
    ),
    min_size=60,
    max_size=120,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows, seed=st.integers(0, 2**31), files=st.integers(1, 4))
def test_the_split_depends_on_content_alone(tmp_path_factory: Any, rows: list[Any], seed: int, files: int) -> None:
    frame = pd.DataFrame(rows, columns=["place", "pressure", "humidity", "rain"])
    frame["humidity"] = frame["humidity"].astype("float64")
    frame = pd.concat([frame, weather(200)], ignore_index=True)
    shuffled = frame.sample(frac=1, random_state=seed % 2**31)
    pieces = [shuffled.iloc[index::files] for index in range(files)]
    parts = []
    for frames in ([frame], pieces):
        folder = tmp_path_factory.mktemp("split")
        report = run(folder, frames)
        assert report.overlap == 0
        parts.append([(folder / "out" / f"{name}.parquet").read_bytes() for name in ("train", "test")])
        assert report.train_rows + report.test_rows + report.duplicates + report.rows_with_nulls == len(frame)
    assert [pq.read_table(pa.BufferReader(content)) for content in parts[0]] == [
        pq.read_table(pa.BufferReader(content)) for content in parts[1]
    ]


def test_the_test_part_has_about_its_share(tmp_path: Path) -> None:
    report = run(tmp_path, [weather(5_000)], plan(prepare=Prepare(split=Split(test=0.3))))
    assert 0.27 < report.test_rows / (report.train_rows + report.test_rows) < 0.33


def test_another_seed_gives_another_split(tmp_path: Path) -> None:
    run(tmp_path, [weather()])
    first = part(tmp_path, "test")
    run(tmp_path, [weather()], plan(prepare=Prepare(split=Split(seed=1))))
    assert not first.equals(part(tmp_path, "test"))


def test_a_group_is_on_one_side(tmp_path: Path) -> None:
    frame = weather(2_000)
    frame["place"] = [f"p{index % 40}" for index in range(len(frame))]
    run(tmp_path, [frame], plan(prepare=Prepare(split=Split(by="group", column="place"))))
    train, test = part(tmp_path, "train"), part(tmp_path, "test")
    assert set(train.place).isdisjoint(test.place)
    assert len(set(test.place)) > 2


def test_a_split_by_time_tests_on_what_came_last(tmp_path: Path) -> None:
    frame = weather(1_000)
    frame["time"] = pd.date_range("2025-01-01", periods=1_000, freq="h")[::-1]
    timed = plan(
        columns=(*COLUMNS, NamedColumn(name="time", type="timestamp")),
        prepare=Prepare(split=Split(by="time")),
        event_time="time",
    )
    run(tmp_path, [frame], timed)
    train, test = part(tmp_path, "train"), part(tmp_path, "test")
    assert train.time.max() < test.time.min()
    assert 180 < len(test) < 220


def test_parquet_and_csv_give_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    run(tmp_path / "a", [weather()])
    run(tmp_path / "b", [weather()], suffix="csv.gz")
    for name in ("train", "test"):
        pd.testing.assert_frame_equal(part(tmp_path / "a", name), part(tmp_path / "b", name))


def test_rows_are_counted_by_why_they_were_dropped(tmp_path: Path) -> None:
    frame = weather(300)
    frame.loc[:9, "pressure"] = np.nan
    frame.loc[10:14, "rain"] = None
    frame = pd.concat([frame, frame.iloc[50:70]], ignore_index=True)
    report = run(tmp_path, [frame])
    assert (report.rows_read, report.rows_with_nulls, report.duplicates) == (320, 15, 20)
    assert report.train_rows + report.test_rows == 285


def test_a_target_expression_and_its_classes(tmp_path: Path) -> None:
    report = run(tmp_path, [weather()], plan(target=Target(column="low", from_="pressure < 1013")))
    assert report.classes == (False, True)
    train = part(tmp_path, "train")
    assert ((train.pressure < 1013).astype(int) == train.low).all()


BROKEN_ROWS = {
    "above max": ({"pressure": 1500.0}, "pressure", "max 1100"),
    "below min": ({"pressure": 3.0}, "pressure", "min 900"),
    "infinity": ({"pressure": np.inf}, "pressure", "finite"),
    "minus infinity": ({"humidity": -np.inf}, "humidity", "finite"),
}


@pytest.mark.parametrize(("change", "column", "rule"), BROKEN_ROWS.values(), ids=BROKEN_ROWS)
def test_a_row_that_breaks_the_contract_is_counted(
    tmp_path: Path, change: dict[str, Any], column: str, rule: str
) -> None:
    frame = weather()
    for name, value in change.items():
        frame.loc[7, name] = value
    [violation] = run(tmp_path, [frame]).violations
    assert (violation.column, violation.rule, violation.count) == (column, rule, 1)


def test_a_category_that_is_not_allowed(tmp_path: Path) -> None:
    allowed = NamedColumn(name="place", type="category", values=("Bern", "Zürich"))
    [violation] = run(tmp_path, [weather()], plan(columns=(allowed, *COLUMNS[1:]))).violations
    assert (violation.rule, violation.example) == ("values Bern, Zürich", "Genève")


def test_nulls_that_are_not_to_be_dropped_break_the_contract(tmp_path: Path) -> None:
    frame = weather()
    frame.loc[:4, "place"] = None
    [violation] = run(tmp_path, [frame], plan(prepare=Prepare(drop_nulls=False))).violations
    assert (violation.column, violation.rule, violation.count) == ("place", "nullable: false", 5)


UNUSABLE = {
    "all null": (lambda frame: frame.assign(humidity=np.nan), "humidity has no value in any of 400 rows"),
    "one class": (lambda frame: frame.assign(rain=True), "has only the class True"),
    "no complete row": (
        lambda frame: frame.assign(place=[None, *["x"] * 399], pressure=[1000.0, *[None] * 399]),
        "0 rows|None of",
    ),
    "a class in one part": (lambda frame: frame.assign(rain=[True, *[False] * 399]), "no row of class True"),
}


@pytest.mark.parametrize(("change", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_data_that_cannot_be_learnt_from_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        run(tmp_path, [change(weather())])


def test_three_classes_for_a_binary_task(tmp_path: Path) -> None:
    used = plan(target=Target(column="where", from_="place"))
    with pytest.raises(DataError, match="3 classes .*multiclass_classification"):
        run(tmp_path, [weather()], used)


def test_a_target_that_cannot_be_computed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"target.from: .*cannot be computed"):
        run(tmp_path, [weather()], plan(target=Target(column="t", from_="pressure > 'a'")))


def test_the_target_expression_cannot_read_files(tmp_path: Path) -> None:
    secret = tmp_path.parent / "secret.csv"
    secret.write_text("a\n1\n")
    expression = f"pressure > (SELECT count(*) FROM read_csv('{secret}'))"
    with pytest.raises(DataError, match=r"target.from"):
        run(tmp_path, [weather()], plan(target=Target(column="t", from_=expression)))


def write_csv(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


BROKEN_FILES = {
    "missing column": ("a.csv", b"place,pressure,rain\nBern,1000,true\n", "a.csv has no column humidity"),
    "wrong type": (
        "a.csv",
        b"place,pressure,humidity,rain\nBern,high,3,true\n",
        "1 values that are no number, such as 'high'",
    ),
    "wrong boolean": ("a.csv", b"place,pressure,humidity,rain\nBern,1000,3,perhaps\n", "no boolean, such as 'perhaps'"),
    "no rows": ("a.csv", b"place,pressure,humidity,rain\n", "hold no rows"),
    "empty file": ("a.csv", b"", "a.csv is empty"),
    "not Parquet": ("a.parquet", b"this is no Parquet file at all", "a.parquet cannot be read as Parquet"),
    "binary CSV": ("a.csv", bytes(range(256)) * 20, "a.csv (cannot be read|has no column)"),
}


@pytest.mark.parametrize(("name", "content", "message"), BROKEN_FILES.values(), ids=BROKEN_FILES)
def test_a_broken_source_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    good = tmp_path / "good.parquet"
    weather().to_parquet(good)
    (tmp_path / name).write_bytes(content)
    sources = [tmp_path / name] if "rows" in message else [good, tmp_path / name]
    with pytest.raises(DataError, match=message):
        check_sources(sources, COLUMNS)


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    weather(20_000).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"a\.parquet cannot be read"):
        check_sources([path], COLUMNS)


def test_a_parquet_column_of_another_type_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    weather().assign(pressure="high").to_parquet(path)
    with pytest.raises(DataError, match="column pressure has the type VARCHAR, but the contract says number"):
        check_sources([path], COLUMNS)


def test_extra_columns_are_reported_and_ignored(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    weather().assign(wind=3).to_parquet(path)
    assert check_sources([path], COLUMNS).extra_columns == ("wind",)
