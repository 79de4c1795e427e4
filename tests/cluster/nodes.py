"""The GPU nodes that Karpenter buys and gives back."""

from __future__ import annotations

from typing import Any

from tests.cluster.kubectl import kubectl, objects
from tests.cluster.waiting import GONE_S, wait_until


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
