"""Broken data and broken surroundings: one clear message, nothing lost, the champion still answers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from mlops_assets.assets.handles import HandleIOManager
from resources.kubernetes.training_jobs import TrainingJobs
from resources.lake.lake import Lake
from resources.tracking.mlflow_tracking import Tracking
from tests.support import TORCH, Platform, check_results, failure, free_port, weather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, mlflow_uri: str) -> Iterator[Platform]:
    """A platform on which version 1 answers; the tests here must not change that."""
    made = Platform(tmp_path_factory.mktemp("deployed"), mlflow_uri)
    made.put(weather())
    assert made.run().success
    yield made
    made.serving.stop()


@pytest.fixture
def champion(deployed: Platform) -> Iterator[Platform]:
    """The deployed platform; afterwards its data is sound again, and version 1 must still be champion and answer."""
    yield deployed
    for item in deployed.lake.list_sources("weather/*"):
        deployed.lake.store.delete(item.key)
    deployed.put(weather())
    assert deployed.champion() == 1
    assert deployed.served() == "1"
    assert len(deployed.tracking.client.search_model_versions(f"name = '{deployed.model}'")) == 1


def change(**columns: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda frame: frame.assign(**columns)


# What breaks the data, and the message of the step that fails
STEPS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "missing column": (lambda frame: frame.drop(columns="pressure"), "a.csv has no column pressure; it has place"),
    "nowhere": (lambda frame: frame.drop(columns="humidity"), "None of the 1 source files has the column humidity"),
    "wrong type": (change(pressure="high"), "column pressure has 400 values that are no number, such as 'high'"),
    "no rows": (lambda frame: frame.head(0), "hold no rows"),
    "all-null column": (change(humidity=np.nan), "Column humidity has no value in any of 400 rows"),
    "single-class target": (change(rain=True), "rain has only the class True"),
    "every row lacks the target": (change(rain=None), "Column rain has no value in any"),
}


@pytest.mark.parametrize(("breaks", "message"), STEPS.values(), ids=STEPS)
def test_broken_data_stops_the_run_with_one_message(champion: Platform, breaks: Any, message: str) -> None:
    champion.put(breaks(weather()))
    assert message in failure(champion.run())


# What breaks the data, the blocking check that fails, and what it says
CHECKS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str, str]] = {
    "out of range": (change(pressure=lambda f: f.pressure * 10), "contract", "pressure: 400 rows break max 1100"),
    "infinities": (change(humidity=lambda f: f.humidity.mask(f.index < 3, np.inf)), "contract", "3 rows break finite"),
    "a feature is the target": (
        change(humidity=lambda f: f.rain.astype(float) * 50),
        "no_leakage",
        "humidity alone gets 100.00% of the way from guessing the target",
    ),
    "a feature is made of the target": (
        change(humidity=lambda f: f.rain * 30 + np.arange(len(f)) % 7),
        "no_leakage",
        "Remove it from features.use",
    ),
    "labels without meaning": (
        change(rain=lambda f: np.random.default_rng(1).random(len(f)) < 0.5),
        "gate",
        "registry and endpoint stay as they are",
    ),
}


@pytest.mark.parametrize(("breaks", "check", "message"), CHECKS.values(), ids=CHECKS)
def test_broken_data_fails_a_blocking_check(champion: Platform, breaks: Any, check: str, message: str) -> None:
    champion.put(breaks(weather()))
    result = champion.run(champion.spec(gate={"metric": "accuracy", "at_least": 0.7}))
    assert not result.success
    found = check_results(result)[check]
    assert not found.passed
    assert message in found.description


@pytest.mark.parametrize(("drop", "rows"), [(True, 400), (False, 450)])
def test_extra_columns_and_duplicates_do_no_harm(tmp_path: Path, mlflow_uri: str, drop: bool, rows: int) -> None:
    platform = Platform(tmp_path, mlflow_uri)
    frame = weather().assign(wind=3)
    platform.put(pd.concat([frame, frame.head(50)]))
    result = platform.run(platform.spec(prepare__drop_duplicates=drop))
    platform.serving.stop()
    assert result.success
    prepared = result.asset_value([platform.model, "prepared_data"])
    assert prepared.train_rows + prepared.test_rows == rows


FILES: dict[str, tuple[str, bytes, str]] = {
    "unparsable": ("b.csv", b"\x00\x01\x02" * 50, "b.csv"),
    "truncated Parquet": ("b.parquet", b"PAR1" + b"x" * 400, "b.parquet cannot be read as Parquet"),
    "empty object": ("b.csv", b"", "b.csv is empty (0 bytes)"),
}


@pytest.mark.parametrize(("name", "content", "message"), FILES.values(), ids=FILES)
def test_a_broken_object_is_named(champion: Platform, name: str, content: bytes, message: str) -> None:
    champion.lake.store.replace(f"weather/{name}", content)
    uri = "weather/*.parquet" if name.endswith("parquet") else "weather/*.csv"
    assert message in failure(champion.run(champion.spec(source={"uri": uri})))


def test_a_source_without_objects(champion: Platform) -> None:
    message = failure(champion.run(champion.spec(source={"uri": "nothing/*.csv"})))
    assert "There are no objects at nothing/*.csv; put data there, or correct source.uri." in message


class Vanishing(Lake):
    """A lake whose first source object is deleted right after it was listed."""

    def list_sources(self, uri: str) -> list[Any]:
        found = super().list_sources(uri)
        self.store.delete(found[0].key)
        return found


def with_lake(platform: Platform, lake: Lake, tracking: Tracking | None = None) -> dg.ExecuteInProcessResult:
    """Run the platform's model on another lake or tracking server."""
    resources = {
        "lake": lake,
        "io_manager": HandleIOManager(lake=lake),
        "tracking": tracking or Tracking(uri=platform.mlflow_uri, lake=lake),
        "training_jobs": TrainingJobs(available=False),
        "serving": platform.serving,
    }
    definitions = platform.definitions(platform.spec())
    job = dg.Definitions(assets=definitions.assets, jobs=definitions.jobs, resources=resources).resolve_job_def(
        platform.model
    )
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    return job.execute_in_process(instance=platform.instance, raise_on_error=False, run_config=quiet)


def test_an_object_deleted_between_listing_and_reading(champion: Platform) -> None:
    lake = Vanishing(uri=champion.lake.uri, cache=champion.lake.cache)
    assert "weather/a.csv was changed or deleted after it was listed" in failure(with_lake(champion, lake))


def test_a_lake_that_cannot_be_reached(champion: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    lake = Lake(uri="s3://lake/x", cache=champion.lake.cache, endpoint_url=f"http://127.0.0.1:{free_port()}")
    message = failure(with_lake(champion, lake))
    assert "s3://lake/x/weather cannot be reached" in message


def test_an_mlflow_server_that_cannot_be_reached(champion: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracking = Tracking(uri=f"http://127.0.0.1:{free_port()}", lake=champion.lake)
    message = failure(with_lake(champion, champion.lake, tracking))
    assert "cannot be reached" in message
    assert "MLFLOW_TRACKING_URI" in message


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_loses_nothing(small_disk: Path, tmp_path: Path, mlflow_uri: str) -> None:
    platform = Platform(tmp_path, mlflow_uri, lake_uri=str(small_disk / "lake"))
    try:
        platform.put(weather())
        assert platform.run(platform.spec(train=TORCH)).success
        platform.put(weather(55_000, seed=2), "b.csv")
        message = failure(platform.run(platform.spec(train=TORCH)))
        assert "No space left on device" in message or "full" in message
        assert platform.champion() == 1
        assert platform.served() == "1"
        platform.lake.store.delete("weather/b.csv")
        for draft in small_disk.rglob("*"):
            assert draft.stat().st_size < 3 << 20
        assert platform.run(platform.spec(train=TORCH)).success
    finally:
        platform.serving.stop()


def test_a_lake_that_may_not_be_written(champion: Platform, tmp_path: Path) -> None:
    blocked = tmp_path / "lake"
    blocked.mkdir()
    (blocked / "weather").symlink_to(Path(champion.lake.uri) / "weather")
    (blocked / champion.model).write_text("a file where a folder is needed")
    message = failure(with_lake(champion, Lake(uri=str(blocked), cache=champion.lake.cache)))
    assert str(blocked) in message
    assert os.strerror(20) in message or os.strerror(17) in message
