"""The lake's promises, the same on a folder and on a real S3 API (a moto server)."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlops_assets.ml.errors import DataError, SpecError
from resources.lake.lake import Lake
from tests.fault_proxy import fault_proxy


def put(lake: Lake, key: str, content: bytes) -> None:
    lake.store.replace(key, content)


def publish(lake: Lake, place: str, version: str, content: bytes) -> None:
    with lake.publishing(place, version) as folder:
        (folder / "data.bin").write_bytes(content)
        (folder / "more.txt").write_text("more")


def test_sources_are_listed_by_pattern_in_order(lake: Lake) -> None:
    for name in ("b.csv", "a.csv", "c.parquet", "deep/d.csv"):
        put(lake, f"in/{name}", name.encode())
    assert [item.key for item in lake.list_sources("in/*.csv")] == ["in/a.csv", "in/b.csv"]
    assert lake.list_sources("nothing/*.csv") == []


def test_sources_are_read_as_they_were_listed(lake: Lake) -> None:
    put(lake, "in/a.csv", b"one")
    items = lake.list_sources("in/*.csv")
    with lake.sources("in/*.csv", items) as [path]:
        assert path.read_bytes() == b"one"


@pytest.mark.parametrize("what", ["changed", "deleted"])
def test_a_source_that_changed_after_listing_is_told(lake: Lake, what: str) -> None:
    put(lake, "in/a.csv", b"one")
    items = lake.list_sources("in/*.csv")
    if what == "changed":
        put(lake, "in/a.csv", b"another")
    else:
        lake.store.delete("in/a.csv")
    with pytest.raises(DataError, match="was changed or deleted after it was listed"), lake.sources("in/*.csv", items):
        pytest.fail("the block must not run")


def test_a_snapshot_is_published_and_fetched(lake: Lake) -> None:
    assert lake.find("m/stage", "v1") is None
    publish(lake, "m/stage", "v1", b"content")
    manifest = lake.find("m/stage", "v1")
    assert manifest is not None
    assert [file.name for file in manifest.files] == ["data.bin", "more.txt"]
    assert (lake.fetch("m/stage", "v1") / "data.bin").read_bytes() == b"content"
    assert lake.fetch("m/stage", "v1") == lake.fetch("m/stage", "v1")


def test_a_writer_that_fails_leaves_nothing_visible(lake: Lake) -> None:
    with pytest.raises(RuntimeError), lake.publishing("m/stage", "v1") as folder:
        (folder / "data.bin").write_bytes(b"half")
        raise RuntimeError
    assert lake.find("m/stage", "v1") is None
    with pytest.raises(DataError, match="no complete snapshot"):
        lake.fetch("m/stage", "v1")


def test_of_two_writers_one_wins_and_the_other_does_no_harm(lake: Lake) -> None:
    with lake.publishing("m/stage", "v1") as slow:
        (slow / "data.bin").write_bytes(b"slow")
        publish(lake, "m/stage", "v1", b"fast")
    assert (lake.fetch("m/stage", "v1") / "data.bin").read_bytes() == b"fast"


@pytest.mark.parametrize("harm", ["truncated", "deleted"])
def test_a_damaged_snapshot_does_not_count_and_can_be_made_again(lake: Lake, harm: str) -> None:
    publish(lake, "m/stage", "v1", b"content")
    manifest = lake.find("m/stage", "v1")
    assert manifest is not None
    key = f"{manifest.folder}/data.bin"
    if harm == "deleted":
        lake.store.delete(key)
    else:
        lake.store.replace(key, b"conte")
    assert lake.find("m/stage", "v1") is None
    publish(lake, "m/stage", "v1", b"content again")
    assert (lake.fetch("m/stage", "v1") / "data.bin").read_bytes() == b"content again"


def test_content_that_does_not_have_its_digest_is_refused(lake: Lake) -> None:
    publish(lake, "m/stage", "v1", b"content")
    manifest = lake.find("m/stage", "v1")
    assert manifest is not None
    lake.store.replace(f"{manifest.folder}/data.bin", b"tampere")
    elsewhere = lake.model_copy(update={"cache": f"{lake.cache}-of-another-machine"})
    with pytest.raises(DataError, match="does not have"):
        elsewhere.fetch("m/stage", "v1")


def test_a_source_is_read_through_a_link(lake: Lake, tmp_path: Path) -> None:
    """As DVC and git-annex lay out a folder: what reads the files may not leave their own folders."""
    (tmp_path / "store").write_bytes(b"content")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.csv").symlink_to(tmp_path / "store")
    uri = f"{tmp_path}/data/*.csv"
    items = lake.list_sources(uri)
    with lake.sources(uri, items) as [path]:
        assert (path.name[-5:], path.is_symlink(), path.read_bytes()) == ("a.csv", False, b"content")


def test_touching_a_source_changes_nothing_and_other_content_does(lake: Lake) -> None:
    put(lake, "in/a.csv", b"one")
    before = lake.list_sources("in/*.csv")
    put(lake, "in/a.csv", b"one")
    assert lake.list_sources("in/*.csv") == before
    put(lake, "in/a.csv", b"two")
    assert lake.list_sources("in/*.csv") != before


def test_a_source_at_the_root_of_the_lake(lake: Lake) -> None:
    put(lake, "a.csv", b"one")
    assert [item.key for item in lake.list_sources("*.csv")] == ["a.csv"]


@pytest.mark.parametrize("uri", ["../*.csv", "in/../../x.csv"])
def test_a_relative_source_stays_in_a_folder_lake(tmp_path: Path, uri: str) -> None:
    (tmp_path / "x.csv").write_text("x")
    lake = Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"leads out of .*; give a path below it, or an absolute source\.uri"):
        lake.list_sources(uri)


def test_the_sources_of_all_stages_are_fetched_once(s3_endpoint: str, tmp_path: Path) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="eu-central-1")
    bucket = f"sources-{time.time_ns()}"
    client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    for number in range(40):
        client.put_object(Bucket=bucket, Key=f"in/{number:02d}.csv", Body=str(number).encode())
    with fault_proxy(s3_endpoint) as proxy:
        uri = f"s3://{bucket}/in/*.csv"
        for _ in range(3):  # as raw_data, prepared_data and the next run do
            lake = Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache"), endpoint_url=proxy.url)
            with lake.sources(uri, lake.list_sources(uri)) as paths:
                assert [path.read_text() for path in paths] == [str(number) for number in range(40)]
    assert len([path for method, path in proxy.seen if method == "GET" and path.endswith(".csv")]) == 40


def test_a_ledger_only_grows(lake: Lake) -> None:
    assert [lake.append("m/ledger", {"what": index}) for index in range(3)] == [1, 2, 3]
    assert [entry["what"] for entry in lake.entries("m/ledger")] == [0, 1, 2]
    assert not lake.store.create("m/ledger/00000001.json", b"another past")


def test_an_entry_of_a_ledger_is_fetched_once(s3_endpoint: str, tmp_path: Path) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="eu-central-1")
    bucket = f"ledger-{time.time_ns()}"
    client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    with fault_proxy(s3_endpoint) as proxy:
        lake = Lake(uri=f"s3://{bucket}", cache=str(tmp_path / "cache"), endpoint_url=proxy.url)
        for number in (1, 2, 3):
            lake.append("m/ledger", {"what": number})
            assert [entry["what"] for entry in lake.entries("m/ledger")] == list(range(1, number + 1))
    fetched = [path for method, path in proxy.seen if method == "GET" and ".json" in path]
    assert len(fetched) == len(set(fetched)) == 3


def test_an_entry_whose_answer_was_lost_is_in_the_ledger_once(s3_endpoint: str, tmp_path: Path) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="eu-central-1")
    bucket = f"ledger-{time.time_ns()}"
    client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    with fault_proxy(s3_endpoint) as proxy:
        lake = Lake(uri=f"s3://{bucket}", cache=str(tmp_path / "cache"), endpoint_url=proxy.url)
        for fault in ("lose the answer", "409", "503", "lose the request"):
            proxy.spoil("PUT", "/ledger/", fault)
            lake.append("m/ledger", {"what": fault})
        proxy.spoil("PUT", "manifest.json", "lose the answer")
        publish(lake, "m/stage", "v1", b"one")
        proxy.spoil("PUT", "manifest.json", "409")
        publish(lake, "m/stage", "v2", b"two")
    entries = lake.model_copy(update={"endpoint_url": s3_endpoint}).entries("m/ledger")
    assert [(entry["number"], entry["what"]) for entry in entries] == [
        (1, "lose the answer"),
        (2, "409"),
        (3, "503"),
        (4, "lose the request"),
    ]


@pytest.mark.parametrize("content", [b"", b'{"alias": ', b"\xff", b"[]"])
def test_a_damaged_entry_is_told_by_its_name(lake: Lake, content: bytes) -> None:
    lake.append("m/ledger", {"what": 1})
    lake.store.create("m/ledger/00000002.json", content)
    with pytest.raises(DataError, match=r"The ledger entry m/ledger/00000002\.json in .* is"):
        lake.entries("m/ledger")
    assert lake.append("m/ledger", {"what": 3}) == 3


def _append(uri: str, cache: str, count: int) -> None:
    lake = Lake(uri=uri, cache=cache)
    for index in range(count):
        lake.append("m/ledger", {"process": os.getpid(), "what": index})


def test_ledger_entries_of_several_processes_have_numbers_of_their_own(tmp_path: Path) -> None:
    uri, cache = str(tmp_path / "lake"), str(tmp_path / "cache")
    processes = [multiprocessing.Process(target=_append, args=(uri, cache, 15)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    entries = Lake(uri=uri, cache=cache).entries("m/ledger")
    assert [entry["number"] for entry in entries] == list(range(1, 46))
    assert len({(entry["process"], entry["what"]) for entry in entries}) == 45


WRITER = """
import sys
from resources.lake.lake import Lake
lake = Lake(uri=sys.argv[1], cache=sys.argv[2])
for index in range(100_000):
    with lake.publishing("m/stage", f"v{index}") as folder:
        for name in range(3):
            (folder / f"{name}.bin").write_bytes(bytes([index % 256]) * 300_000)
    print(index, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_whole_snapshots_or_none(tmp_path: Path) -> None:
    lake = Lake(uri=str(tmp_path / "lake"), cache=str(tmp_path / "cache"))
    program = [sys.executable, "-c", WRITER, lake.uri, lake.cache]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[4]) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        done = 19 + len(process.stdout.readlines())
    versions = [path.name for path in (tmp_path / "lake/m/stage").iterdir()]
    assert len(versions) >= 20
    for version in versions:
        manifest = lake.find("m/stage", version)
        if int(version[1:]) <= done:
            assert manifest is not None
        if manifest is not None:
            folder = lake.fetch("m/stage", version)
            assert {file.stat().st_size for file in folder.iterdir()} == {300_000}


def test_spaces_share_snapshots_and_have_locks_and_ledgers_of_their_own(lake: Lake) -> None:
    ann, ben = (lake.model_copy(update={"space": space}) for space in ("ann", "ben"))
    publish(ann, "m/stage", "v1", b"content")
    for other in (ben, lake):
        manifest = other.find("m/stage", "v1")
        assert manifest is not None
    with ann.lock("m"), ben.lock("m", wait_s=0), lake.lock("m", wait_s=0):
        assert [ann.append("m/ledger", {"by": "ann"}), ann.append("m/ledger", {"by": "ann"})] == [1, 2]
        assert [ben.append("m/ledger", {"by": "ben"}), lake.append("m/ledger", {"by": "production"})] == [1, 1]
    assert [entry["by"] for entry in ann.entries("m/ledger")] == ["ann", "ann"]
    assert [entry["by"] for entry in lake.entries("m/ledger")] == ["production"]
    assert sorted(lake.store.sizes("**/ledger/*.json")) == [
        "m/ledger/00000001.json",
        *("spaces/ann/m/ledger/00000001.json", "spaces/ann/m/ledger/00000002.json"),
        "spaces/ben/m/ledger/00000001.json",
    ]


def test_who_may_only_look_at_a_space_gets_no_lock_there(lake: Lake) -> None:
    looks = lake.model_copy(update={"owns_space": False})
    with (
        pytest.raises(SpecError, match=r"is not production, and may not change .*; unset MLOPS_SPACE"),
        looks.lock("m"),
    ):
        pytest.fail("the block must not run")
    assert not list(lake.store.stored("m"))


def test_a_model_is_known_by_the_name_that_its_space_gives_it(lake: Lake) -> None:
    ann = lake.model_copy(update={"space": "ann"})
    names = [ann.name_of("iris"), lake.name_of("iris"), "ben--iris", "ann-lee--iris"]
    assert names[:2] == ["ann--iris", "iris"]
    assert (ann.models_of(names), lake.models_of(names)) == (["iris"], ["iris"])
