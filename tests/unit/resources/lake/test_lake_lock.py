"""The lock of a lake: between threads, processes and machines, and after a holder has died or slept."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from mlops_assets.ml.errors import LakeError
from resources.lake.lake_lock import lake_lock

if TYPE_CHECKING:
    from resources.lake.lake import Lake
    from resources.lake.object_store import ObjectStore

PROJECT = Path(__file__).parents[4]
COUNTER = """
import sys
from resources.lake.lake import Lake
lake = Lake(uri=sys.argv[1], cache=sys.argv[2], endpoint_url=sys.argv[3] or None)
for _ in range(int(sys.argv[4])):
    with lake.lock("m"):
        value = int(lake.store.read("m/counter") or b"0")
        lake.store.replace("m/counter", str(value + 1).encode())
"""
HOLDER = """
import sys, time
from resources.lake.lake import Lake
lake = Lake(uri=sys.argv[1], cache=sys.argv[2], endpoint_url=sys.argv[3] or None)
with lake.lock("m"):
    print("held", flush=True)
    time.sleep(600)
"""


def program(lake: Lake, text: str, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", text, lake.uri, lake.cache, lake.endpoint_url or "", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT)


def test_what_processes_do_under_one_lock_they_do_one_after_the_other(lake: Lake) -> None:
    programs = [program(lake, COUNTER, "8") for _ in range(3)]
    assert [process.wait() for process in programs] == [0, 0, 0]
    assert lake.store.read("m/counter") == b"24"


def test_threads_of_one_process_exclude_each_other_too(lake: Lake) -> None:
    inside: list[int] = []

    def work(_: int) -> int:
        with lake.lock("m"):
            inside.append(1)
            count = len(inside)
            time.sleep(0.01)
            inside.pop()
        return count

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(12))) == [1] * 12


def test_a_thread_that_holds_a_lock_goes_on_with_it(lake: Lake) -> None:
    with lake.lock("m") as outer, lake.model_copy().lock("m") as inner:
        assert inner is outer
    with lake.lock("m") as later:
        assert later.number == outer.number + 1


def test_locks_of_different_names_do_not_wait_for_each_other(lake: Lake) -> None:
    with lake.lock("a"), lake.lock("b", wait_s=0):
        pass


def test_what_fails_under_a_lock_releases_it(lake: Lake) -> None:
    with pytest.raises(ValueError, match="mine"), lake.lock("m"):
        raise ValueError("mine")
    with lake.lock("m", wait_s=0):
        pass


def test_a_holder_killed_on_this_machine_blocks_nobody(lake: Lake) -> None:
    with program(lake, HOLDER) as process:
        assert process.stdout is not None
        process.stdout.readline()
        told = r"The lock of m was held by others for 0 s, now by .*; wait for that run"
        with pytest.raises(LakeError, match=told), lake.lock("m", wait_s=0):
            pytest.fail("the block must not run")
        process.send_signal(signal.SIGKILL)
        process.wait()
        with lake.lock("m", wait_s=5):
            pass


def test_a_holder_of_another_machine_that_is_not_heard_of_blocks_for_its_lease(lake: Lake) -> None:
    lake.store.create("m/lock/00000007.json", json.dumps({"owner": "elsewhere/1@2"}).encode())
    began = time.monotonic()
    with lake_lock(lake.store, "m", wait_s=10, lease_s=0.6) as held:
        assert time.monotonic() - began > 0.6
        assert held.number == 8
    assert list(lake.store.sizes("m/lock/*")) == ["m/lock/00000008.json"]


def test_a_holder_that_works_longer_than_its_lease_keeps_the_lock(lake: Lake) -> None:
    with (
        lake_lock(lake.store, "m", wait_s=1, lease_s=0.6),
        pytest.raises(LakeError, match="held by others"),
        lake_lock(lake.store, "m", wait_s=2, lease_s=0.6),
    ):
        pytest.fail("the block must not run")


def test_a_holder_that_slept_through_its_lease_is_told(lake: Lake) -> None:
    with (
        pytest.raises(LakeError, match="The lock of m was taken over"),
        lake_lock(lake.store, "m", wait_s=1, lease_s=30) as held,
        lake_lock(lake.store, "m", wait_s=5, lease_s=0.2),
        pytest.raises(LakeError, match="taken over"),
    ):
        held.check()


def test_a_process_that_comes_too_late_for_a_number_does_not_hold_the_lock(lake: Lake) -> None:
    """It saw number 1 free, slept, and number 2 was created, released and deleted by the holder of 3 meanwhile."""
    lake.store.create("m/lock/00000003.json", json.dumps({"owner": "elsewhere/1@2"}).encode())
    lake.store.create("m/lock/00000001.json", json.dumps({"released": True}).encode())
    first_listing = [lake.store.sizes("m/lock/*1.json")]

    class Late:
        def __getattr__(self, name: str) -> object:
            return getattr(lake.store, name)

        def sizes(self, pattern: str) -> dict[str, int]:
            return first_listing.pop() if first_listing else lake.store.sizes(pattern)

    late = cast("ObjectStore", Late())
    with pytest.raises(LakeError, match="held by others"), lake_lock(late, "m", wait_s=0.2):
        pytest.fail("the block must not run")
    assert "m/lock/00000002.json" not in list(lake.store.sizes("m/lock/*"))


def test_a_lock_object_that_cannot_be_read_is_free_after_the_lease(lake: Lake) -> None:
    lake.store.create("m/lock/00000001.json", b'{"own')
    with lake_lock(lake.store, "m", wait_s=5, lease_s=0.3):
        pass
