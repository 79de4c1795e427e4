"""Faults of the cluster itself, on a machine that runs all of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.cluster.kubectl import kubectl, objects

if TYPE_CHECKING:
    from collections.abc import Iterator

REFUSED, SILENT = ("REJECT", "--reject-with", "tcp-reset"), ("DROP",)


def need_this_machine() -> None:
    """Skip where the cluster's own processes cannot be reached."""
    if os.geteuid() != 0 or not shutil.which("iptables") or not _pids("kube-apiserver"):
        pytest.skip("the cluster's API server and kubelets are not processes of this machine, or this is not root")


@contextlib.contextmanager
def api_server_is_away(how: tuple[str, ...] = REFUSED) -> Iterator[None]:
    """Pods do not reach the API server; kubelets and controllers do, so that all else goes on."""
    [subset] = json.loads(kubectl("get", "endpoints", "kubernetes", "-o", "json"))["subsets"]
    port = str(subset["ports"][0]["port"])
    pods = [node["spec"]["podCIDR"] for node in objects("nodes") if node["spec"].get("podCIDR")]
    rules = [["INPUT", "-s", cidr, "-p", "tcp", "--dport", port, "-j", *how] for cidr in sorted(set(pods))]
    for rule in rules:
        subprocess.run(["iptables", "-w", "-I", *rule], check=True)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run(["iptables", "-w", "-D", *rule], check=True)


@contextlib.contextmanager
def kubelet_is_stopped(node: str) -> Iterator[None]:
    """The kubelet of a node hangs, and with it the node, as far as Kubernetes sees; its containers go on."""
    pids = _pids(f"kubelet.*{node}")
    assert pids, f"no kubelet of {node} on this machine"
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def pause(seconds: float) -> None:
    """How long a fault lasts."""
    time.sleep(seconds)


def _pids(pattern: str) -> list[int]:
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split() if int(pid) != os.getpid()]
