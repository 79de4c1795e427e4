"""A copy of an environment of `k8s/` under names of its own, to ask the API server what it thinks of it."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cluster.cluster import K8S, overlay

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRONMENTS = ("test", "staging", "production", "team-b")
CRDS = Path(os.environ.get("MLOPS_CRDS", K8S.parent.parent / "shared" / "crds"))
CLUSTER_WIDE = {
    *("Namespace", "PriorityClass", "ClusterRole", "ClusterRoleBinding", "NodePool", "EC2NodeClass"),
    *("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"),
    *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ResourceFlavor", "ClusterQueue"),
}
# What admission and authorization look at, so what must really be there
GROUNDWORK = {
    *("Namespace", "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "PriorityClass"),
    *("ResourceQuota", "LimitRange", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"),
    *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
}


class Copy:
    """An environment's objects under names that nothing else in the cluster has."""

    def __init__(self, environment: str) -> None:
        self.suffix = f"-manifests-{secrets.token_hex(3)}"
        self.original = f"mlops-{environment}"
        self.namespace = self.original + self.suffix
        self.objects = [self._renamed(item) for item in overlay(environment)]
        for item in self.objects:
            if item["kind"] in CLUSTER_WIDE - {"Namespace"}:
                item["metadata"].pop("namespace", None)
                item["metadata"]["name"] += self.suffix

    def _renamed(self, node: Any) -> Any:
        """References to cluster-wide objects follow their new names."""
        if isinstance(node, list):
            return [self._renamed(item) for item in node]
        if not isinstance(node, dict):
            return self.namespace if node == self.original else node
        if node.get("kind") == "ClusterRole" and "apiGroup" in node:
            return {**node, "name": node["name"] + self.suffix}
        named = ("priorityClassName", "policyName")
        return {key: value + self.suffix if key in named else self._renamed(value) for key, value in node.items()}

    @property
    def prefix(self) -> str:
        """What the names of its cluster-wide objects begin with."""
        [settings] = [item["data"] for item in self.objects if item["metadata"]["name"] == "mlops-environment"]
        return settings.get("MLOPS_PREFIX", "")

    @property
    def pods(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each pod template, with the name of its owner."""
        for item in self.objects:
            template = item.get("spec", {}).get("template", {})
            if "containers" in template.get("spec", {}):
                claims = [claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", [])]
                volumes = [*template["spec"].get("volumes", []), *({"name": name, "emptyDir": {}} for name in claims)]
                yield item["metadata"]["name"], {**template, "spec": {**template["spec"], "volumes": volumes}}


def as_list(objects: list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def admit(namespace: str, pod: dict[str, Any], name: str = "probe") -> subprocess.CompletedProcess[str]:
    """Ask the API server for a pod, and for what it would make of it, without making it."""
    metadata = {**pod.get("metadata", {}), "name": name, "namespace": namespace}
    body = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]})
    command = ["kubectl", "create", "--dry-run=server", "-o", "json", "-f", "-"]
    return subprocess.run(command, input=body, text=True, capture_output=True, check=False)
