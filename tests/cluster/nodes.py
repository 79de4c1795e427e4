"""The GPU nodes that Karpenter buys and gives back."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from tests.cluster.kubectl import kubectl, objects
from tests.cluster.waiting import GONE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

CAPACITY_TYPE = "karpenter.sh/capacity-type"


def gpu_claims() -> list[dict[str, Any]]:
    """NodeClaims of the GPU pool."""
    return objects("nodeclaims", "-l", "karpenter.sh/nodepool=gpu")


def gpu_nodes_are_gone() -> None:
    """Wait until Karpenter has given all of them back."""
    wait_until(lambda: not gpu_claims(), GONE_S, "the GPU nodes are consolidated away", every_s=3)


def delete_node(pod: dict[str, Any]) -> None:
    """Take the pod's node away as a spot interruption does."""
    [claim] = [claim for claim in gpu_claims() if claim["status"].get("nodeName") == pod["spec"]["nodeName"]]
    kubectl("delete", "nodeclaim", claim["metadata"]["name"], "--wait=false")


def change_pool(name: str, template: dict[str, Any]) -> None:
    """Change the template of a NodePool's nodes, by a merge patch."""
    patch = {"spec": {"template": template}}
    kubectl("patch", "nodepool", name, "--type", "merge", "--patch", json.dumps(patch))


@contextlib.contextmanager
def cloud_without_gpus() -> Iterator[None]:
    """There is no instance type to be had for the GPU pool.

    Karpenter's simulated cloud always has all that it offers, so the pool takes a kind of capacity alone that it does
    not offer. To Karpenter's scheduler that is what a shortage is, where a cloud tells that an offering is used up.
    """
    [pool] = [pool for pool in objects("nodepools") if pool["metadata"]["name"] == "gpu"]
    before = pool["spec"]["template"]["spec"]["requirements"]
    others = [item for item in before if item["key"] != CAPACITY_TYPE]
    change_pool(
        "gpu", {"spec": {"requirements": [*others, {"key": CAPACITY_TYPE, "operator": "In", "values": ["reserved"]}]}}
    )
    try:
        yield
    finally:
        change_pool("gpu", {"spec": {"requirements": before}})


@contextlib.contextmanager
def only_nodes_of_karpenter() -> Iterator[None]:
    """New pods go to nodes that Karpenter makes."""
    names = [node["metadata"]["name"] for node in objects("nodes", "-l", "!karpenter.sh/nodepool")]
    kubectl("cordon", *names)
    try:
        yield
    finally:
        kubectl("uncordon", *names)
