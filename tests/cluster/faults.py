"""Faults of the cluster itself, on a machine that runs all of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
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


def api_server() -> tuple[str, int]:
    """Its address and port on this machine."""
    [subset] = json.loads(kubectl("get", "endpoints", "kubernetes", "-o", "json"))["subsets"]
    return subset["addresses"][0]["ip"], subset["ports"][0]["port"]


@contextlib.contextmanager
def api_server_is_away(how: tuple[str, ...] = REFUSED) -> Iterator[None]:
    """Pods do not reach the API server; kubelets and controllers do, so that all else goes on."""
    port = str(api_server()[1])
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
def node_hangs(node: str) -> Iterator[None]:
    """Nothing goes on there, neither its kubelet nor its pods, and nobody says so."""
    kubelets = _pids(f"kubelet.*{node}")
    assert kubelets, f"no kubelet of {node} on this machine"
    pids = [*kubelets, *_pids_of_pods(node)]
    _send(signal.SIGSTOP, pids)
    try:
        yield
    finally:
        _send(signal.SIGCONT, pids)


def pause(seconds: float) -> None:
    """How long a fault lasts."""
    time.sleep(seconds)


def _pids(pattern: str) -> list[int]:
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split() if int(pid) != os.getpid()]


def _pids_of_pods(node: str) -> list[int]:
    """Processes of the pods of a node, whose control groups are named by the pods' uids."""
    pods = objects("pods", "--all-namespaces", "--field-selector", f"spec.nodeName={node}")
    uids = [pod["metadata"]["uid"] for pod in pods]
    found: list[int] = []
    for file in Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):
            group = file.read_text()
            # With systemd their names have underscores
            if any(uid in group or uid.replace("-", "_") in group for uid in uids):
                found.append(int(file.parent.name))
    return found


def _send(number: signal.Signals, pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
