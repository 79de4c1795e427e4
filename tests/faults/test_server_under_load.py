"""A model server under long load: its answers are in the inference log or counted, and its memory stays as it was."""

from __future__ import annotations

import asyncio
import io
import math
import os
import re
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, NamedTuple

import boto3
import psutil
import pyarrow.parquet as pq
import pytest

from bench.load import Connection
from mlops_assets.serving.log_policy import InferenceLogPolicy
from tests.fault_proxy import fault_proxy
from tests.model_servers import model_server

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.model_servers import ModelServer

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]

REQUESTS = int(os.environ.get("MLOPS_LOGGED_REQUESTS", "100000"))
AWAY_S = int(os.environ.get("MLOPS_AWAY_SECONDS", "45"))
LOAD_S = int(os.environ.get("MLOPS_LOAD_SECONDS", "60"))
TERMINATED_AFTER_S = 5
DROPPED, STORED = "model_inference_log_dropped_total", "model_inference_log_stored_total"
BODY = b'{"instances": [{"x": 1.5}]}'
COUNTS_AT_ITS_END = """
from prometheus_client import generate_latest
from mlops_assets.serving.inference_log import InferenceLog

def close(log, *arguments, _close=InferenceLog.close):
    _close(log, *arguments)
    open({!r}, "wb").write(generate_latest())

InferenceLog.close = close
"""


class Answers(NamedTuple):
    """How many requests got an answer, and what the others met."""

    answered: int
    refused: list[str]


async def _asked(server: ModelServer, connections: int, answers: float, seconds: float) -> Answers:
    head = f"POST /v1/models/m:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n\r\n"
    made = [Connection(head.encode() + BODY, time.perf_counter() + seconds) for _ in range(connections)]
    for connection in made:
        await asyncio.get_running_loop().create_connection(lambda c=connection: c, "127.0.0.1", server.port)
    while not all(connection.done.done() for connection in made):
        await asyncio.sleep(0.05)
        if sum(len(connection.latencies) for connection in made) >= answers:
            for connection in made:
                connection.deadline = 0  # its next answer is its last
    refused = [text for connection in made for text in connection.refused]
    return Answers(sum(len(connection.latencies) for connection in made), refused)


def ask(server: ModelServer, connections: int = 8, answers: float = math.inf, seconds: float = 600) -> Answers:
    """Ask over so many connections, until there are so many answers or for so long."""
    return asyncio.run(_asked(server, connections, answers, seconds))


def counted(metrics: str, name: str) -> int:
    found = re.search(rf'^{name}{{model="m"}} (\S+)$', metrics, re.MULTILINE)
    return int(float(found[1])) if found else 0


@pytest.fixture
def bucket(tmp_path: Path, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"log-{tmp_path.name.replace('_', '-')[-30:]}-{os.getpid()}".lower()
    boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1").create_bucket(Bucket=name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    return name


def logged(endpoint: str, bucket: str) -> list[str]:
    """The ids of all requests in the log, with each as often as it is there."""
    s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="inference/")
    found = list[str]()
    for item in (item for page in pages for item in page.get("Contents", [])):
        content = s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
        found += pq.read_table(io.BytesIO(content), columns=["request_id"])["request_id"].to_pylist()
    return found


def logging_server(folder: Path, bucket: str, end: Path) -> AbstractContextManager[ModelServer]:
    """A server that logs to a bucket, and writes its metrics to the file `end` when it ends."""
    lines = COUNTS_AT_ITS_END.format(str(end))
    return model_server(folder, "--lake-uri", f"s3://{bucket}", lines=lines, policy=InferenceLogPolicy())


def test_what_was_answered_is_logged_or_counted_also_when_a_server_ends_in_between(
    tmp_path: Path, bucket: str, s3_endpoint: str
) -> None:
    end = tmp_path / "first"
    with logging_server(tmp_path / "a", bucket, end) as server:
        threading.Timer(TERMINATED_AFTER_S, server.process.terminate).start()  # under full load, between batches
        first = ask(server)
        server.process.wait(90)
    dropped = counted(end.read_text(), DROPPED)
    end = tmp_path / "second"
    with logging_server(tmp_path / "b", bucket, end) as server:
        second = ask(server, answers=REQUESTS - first.answered)
        assert second.refused == []
        server.process.terminate()
        server.process.wait(90)
    dropped += counted(end.read_text(), DROPPED)
    answered = first.answered + second.answered
    assert answered >= REQUESTS
    ids = logged(s3_endpoint, bucket)
    assert len(ids) == len(set(ids))
    # A connection that closed may have had a request whose answer did not get through
    assert answered <= len(ids) + dropped <= answered + 8


def test_while_the_lake_is_away_requests_are_answered_and_the_rest_arrives(
    tmp_path: Path, bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fault_proxy(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        end = tmp_path / "counts"
        with logging_server(tmp_path / "server", bucket, end) as server:
            memory = psutil.Process(server.process.pid).memory_info
            before = memory().rss
            proxy.spoil("PUT", "inference/", "503", times=1_000_000)
            found = ask(server, seconds=AWAY_S)
            assert found.refused == []
            # 32 MiB of requests, 16 MiB of files, and what Python makes of them
            assert memory().rss - before < 250 << 20
            proxy.rules.clear()
            more = ask(server, seconds=5)
            assert more.refused == []
            server.process.terminate()
            server.process.wait(90)
        metrics = end.read_text()
    ids = logged(s3_endpoint, bucket)
    assert len(ids) == len(set(ids)) == counted(metrics, STORED) > 0
    dropped = counted(metrics, DROPPED)
    assert len(ids) + dropped == found.answered + more.answered


def test_memory_is_flat_and_no_request_fails(tmp_path: Path, bucket: str) -> None:
    with logging_server(tmp_path / "server", bucket, tmp_path / "counts") as server:
        memory, seen = psutil.Process(server.process.pid).memory_info, list[int]()
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(LOAD_S / 60):
                seen.append(memory().rss)

        watch = threading.Thread(target=look)
        watch.start()
        found = ask(server, connections=64, seconds=LOAD_S)
        ended.set()
        watch.join()
        with urllib.request.urlopen(f"{server.url}/v2/health/live") as answer:
            assert answer.status == 200
    assert found.refused == []
    third = len(seen) // 3
    assert max(seen[-third:]) - max(seen[third : 2 * third]) < 40 << 20, [rss >> 20 for rss in seen]
