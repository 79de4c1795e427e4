"""Which rows are held out: by content, group or time, and never by their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.ml.data.contract import NamedColumn, Prepare, Split
from tests.preparation import COLUMNS, part, plan, prepare_frames
from tests.support import weather

if TYPE_CHECKING:
    from pathlib import Path

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


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
        report = prepare_frames(folder, frames)
        parts.append([(folder / "out" / f"{name}.parquet").read_bytes() for name in ("train", "test")])
        assert report.train_rows + report.test_rows + report.duplicates + report.rows_with_nulls == len(frame)
    assert [pq.read_table(pa.BufferReader(content)) for content in parts[0]] == [
        pq.read_table(pa.BufferReader(content)) for content in parts[1]
    ]


def test_the_test_part_has_about_its_share(tmp_path: Path) -> None:
    report = prepare_frames(tmp_path, [weather(5_000)], plan(prepare=Prepare(split=Split(test=0.3))))
    assert 0.27 < report.test_rows / (report.train_rows + report.test_rows) < 0.33


def test_another_seed_gives_another_split(tmp_path: Path) -> None:
    prepare_frames(tmp_path, [weather()])
    first = part(tmp_path, "test")
    prepare_frames(tmp_path, [weather()], plan(prepare=Prepare(split=Split(seed=1))))
    assert not first.equals(part(tmp_path, "test"))


def test_a_group_is_on_one_side(tmp_path: Path) -> None:
    frame = weather(2_000)
    frame["place"] = [f"p{index % 40}" for index in range(len(frame))]
    prepare_frames(tmp_path, [frame], plan(prepare=Prepare(split=Split(by="group", column="place"))))
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
    prepare_frames(tmp_path, [frame], timed)
    train, test = part(tmp_path, "train"), part(tmp_path, "test")
    assert train.time.max() < test.time.min()
    assert 180 < len(test) < 220
