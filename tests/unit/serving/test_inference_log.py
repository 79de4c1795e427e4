"""What is answered is in the log or counted as dropped, whatever the lake does."""

from __future__ import annotations

import io
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from prometheus_client import REGISTRY

from mlops_assets.ml.errors import ArtifactError
from mlops_assets.serving import inference_log, log_files
from mlops_assets.serving.declaration import ServedVersion
from mlops_assets.serving.inference_log import InferenceLog
from mlops_assets.serving.lake_files import LakeFolder
from mlops_assets.serving.log_policy import InferenceLogPolicy
from mlops_assets.serving.predictor import Predictor
from tests.artifacts import write_artifact
from tests.support import wait_until

if TYPE_CHECKING:
    from pathlib import Path


class Lake(LakeFolder):
    """A folder that may be away."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.away = False
        self.puts = 0

    def put(self, key: str, content: bytes) -> None:
        self.puts += 1
        if self.away:
            raise ConnectionError("the lake is away")
        super().put(key, content)

    def rows(self) -> pd.DataFrame:
        """All rows of the log."""
        files = sorted(self.folder.rglob("inference/**/*.parquet"))
        return pd.concat([pd.read_parquet(io.BytesIO(path.read_bytes())) for path in files], ignore_index=True)


class Server:
    """A log with a model, and what its counters say."""

    def __init__(
        self, folder: Path, name: str, policy: InferenceLogPolicy, *, is_candidate: bool = False, **options: Any
    ) -> None:
        self.lake = Lake(folder / "lake")
        self.log = InferenceLog(self.lake, options.pop("salt", b"salt"), **options)
        signature = write_artifact(folder / "1")
        served = ServedVersion(folder="1", sha256=signature.sha256, version="7", log=policy)
        self.model = Predictor(name, served, folder / "1", record=self.log.record, is_candidate=is_candidate)

    def ask(self, request_id: str, *values: float, role: bytes | None = None) -> None:
        rows = ", ".join(f'{{"x": {value}}}' for value in values or (1.0,))
        self.model.predict_v1(f'{{"instances": [{rows}]}}'.encode(), request_id, role)

    def counted(self, what: str) -> float:
        return REGISTRY.get_sample_value(f"model_inference_log_{what}_total", {"model": self.model.name}) or 0


@pytest.fixture
def made(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    servers = list[Server]()

    def make(policy: InferenceLogPolicy | None = None, **options: Any) -> Server:
        name = f"m_{abs(hash(request.node.nodeid))}"
        servers.append(Server(tmp_path, name, policy or InferenceLogPolicy(), **options))
        return servers[-1]

    yield make
    for server in servers:
        server.lake.away = False
        server.log.close()


def test_a_stopped_server_has_stored_every_row_with_what_was_asked_and_answered(made: Any) -> None:
    server = made()
    before = time.time()
    server.ask("one", 1.5)
    server.ask("two", 2, 3)
    server.log.close()
    rows = server.lake.rows()
    assert rows[["request_id", "row", "version", "role"]].to_numpy().tolist() == [
        ["one", 0, "7", "champion"],
        ["two", 0, "7", "champion"],
        ["two", 1, "7", "champion"],
    ]
    assert rows["input:x"].tolist() == [1.5, 2, 3]
    assert rows["output:prediction"].tolist() == [3, 4, 6]
    assert (rows["latency_ms"] > 0).all()
    assert abs(rows["time"].map(pd.Timestamp.timestamp) - before).max() < 60
    assert (server.counted("stored"), server.counted("dropped")) == (2, 0)


def test_files_lie_by_the_hour_below_the_models_own_folder(made: Any) -> None:
    server = made()
    server.ask("one")
    server.log.close()
    [path] = server.lake.folder.rglob("*.parquet")
    kind, model, year, month, day, hour, _ = path.relative_to(server.lake.folder).parts
    assert (kind, model) == ("inference", server.model.name)
    assert all(part.isdigit() for part in (year, month, day, hour))


def test_of_a_candidate_it_says_whether_callers_got_its_answers_and_keeps_none_of_a_replay(made: Any) -> None:
    server = made(is_candidate=True)
    for role in (None, b"canary", b"mirror", b"replay"):
        server.ask(f"as {role}".replace(" ", "-"), role=role)
    server.log.close()
    assert server.lake.rows()["role"].tolist() == ["canary", "canary", "mirror"]


def test_a_caller_of_the_champion_does_not_decide_what_is_kept(made: Any) -> None:
    server = made()
    server.ask("one", role=b"replay")
    server.log.close()
    assert server.lake.rows()["role"].tolist() == ["champion"]


def test_what_waits_long_enough_is_stored_while_the_server_runs(made: Any) -> None:
    server = made(age_s=0.2)
    server.ask("one")
    wait_until(lambda: server.counted("stored") == 1)


def test_columns_are_left_out_or_kept_as_salted_digests(made: Any) -> None:
    server = made(InferenceLogPolicy(hash=("x",)))
    server.ask("a", 5, 5, 6)
    server.log.close()
    rows = server.lake.rows()
    assert "input:x" not in rows  # nobody takes a digest for a value
    first, same, other = rows["digest:x"]
    assert first == same != other
    assert len(first) == 32
    assert first != "5"


def test_left_out_columns_are_not_there(made: Any) -> None:
    server = made(InferenceLogPolicy(leave_out=("x",)))
    server.ask("a", 5)
    server.log.close()
    assert "input:x" not in server.lake.rows()


def test_digests_without_a_salt_are_refused(made: Any) -> None:
    server = made(salt=b"")
    server.log.check(InferenceLogPolicy(leave_out=("x",)))
    with pytest.raises(ArtifactError, match="give the server MLOPS_LOG_SALT, or leave the columns out"):
        server.log.check(InferenceLogPolicy(hash=("x",)))


def test_while_the_lake_is_away_requests_wait_and_arrive_when_it_is_back(made: Any) -> None:
    server = made(age_s=0.05)
    server.lake.away = True
    for index in range(50):
        server.ask(f"r{index}")
    wait_until(lambda: server.lake.puts >= 1)
    server.lake.away = False
    wait_until(lambda: server.counted("stored") == 50)
    assert sorted(server.lake.rows()["request_id"]) == sorted(f"r{index}" for index in range(50))


def test_what_does_not_fit_is_dropped_and_counted_and_memory_stays_bounded(made: Any) -> None:
    server = made(age_s=0.05, queue_bytes=50_000, batch_bytes=20_000, waiting_bytes=20_000)
    server.lake.away = True
    for index in range(500):
        server.ask(f"r{index}")
        if index % 50 == 0:
            time.sleep(0.1)
    dropped = server.counted("dropped")
    assert 300 < dropped < 500
    server.lake.away = False
    server.log.close()
    assert len(server.lake.rows()) + dropped == 500
    assert server.counted("stored") == 500 - dropped


def test_a_server_that_stops_while_the_lake_is_away_counts_what_it_loses(made: Any) -> None:
    server = made()
    server.lake.away = True
    server.ask("one")
    server.log.close(timeout_s=0.5)
    assert (server.counted("stored"), server.counted("dropped")) == (0, 1)


def test_requests_of_many_threads_while_the_server_stops_are_stored_or_counted(made: Any) -> None:
    server = made(age_s=0.01)
    stop, sent = threading.Event(), [0] * 4

    def ask(number: int) -> None:
        while not stop.is_set():
            server.ask(f"{number}-{sent[number]}")
            sent[number] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    server.log.close()
    stop.set()
    for thread in threads:
        thread.join()
    rows = server.lake.rows()
    assert not rows["request_id"].duplicated().any()
    assert len(rows) + server.counted("dropped") == sum(sent)


def test_requests_of_many_rows_are_whole_and_in_order_however_many_are_made_at_a_time(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "PIECE_ROWS", 3)
    server, sizes = made(), (1, 1, 7, 2, 1, 3)
    for index, size in enumerate(sizes):
        server.ask(f"r{index}", *range(1, size + 1))
    server.log.close()
    rows = server.lake.rows()
    wanted = [[f"r{index}", row, row + 1.0] for index, size in enumerate(sizes) for row in range(size)]
    assert rows[["request_id", "row", "input:x"]].to_numpy().tolist() == wanted
    assert (rows["output:prediction"] == 2 * rows["input:x"]).all()
    assert server.counted("stored") == len(sizes)


def test_a_version_without_a_policy_has_no_log(made: Any) -> None:
    server = made()
    server.model.served = server.model.served.model_copy(update={"log": None})
    server.ask("one")
    server.log.close()
    assert not list(server.lake.folder.rglob("*.parquet"))


def test_missing_values_are_missing_in_the_log(made: Any) -> None:
    server = made()
    server.log.record(
        server.model,
        "a",
        "champion",
        0.1,
        {"x": np.array([[np.nan], [1]], np.float32)},
        {"prediction": np.zeros((2, 1), np.float32)},
        9,
    )
    server.log.close()
    assert server.lake.rows()["input:x"].isna().tolist() == [True, False]


def test_requests_that_cannot_be_written_are_counted_and_those_that_come_later_are_kept(made: Any) -> None:
    server = made(age_s=0.05)
    inputs, odd = {"x": np.ones((1, 1), np.float32)}, {"prediction": np.ones((1, 1), np.complex64)}
    server.log.record(server.model, "odd", "champion", 0.1, inputs, odd, 9)
    wait_until(lambda: server.counted("dropped") == 1)
    server.ask("later")
    wait_until(lambda: server.counted("stored") == 1)
    assert server.lake.rows()["request_id"].tolist() == ["later"]


def test_a_file_that_cannot_be_made_is_counted_and_those_that_come_later_are_kept(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = made(age_s=0.05)
    with monkeypatch.context() as broken:
        broken.setattr(inference_log, "parquet", lambda *_: 1 / 0)
        server.ask("odd")
        wait_until(lambda: server.counted("dropped") == 1)
    server.ask("later")
    wait_until(lambda: server.counted("stored") == 1)
    assert server.lake.rows()["request_id"].tolist() == ["later"]
