"""Brings the packages of `make setup` into the pods of the test images by volumes; see images/Dockerfile."""

from __future__ import annotations

import importlib.metadata
import json
import re
from pathlib import Path
from typing import Any

import pandas

from tests.cluster.cluster import LOCAL

PROJECT = Path(__file__).parents[2]
IMAGES = {f"{LOCAL}/mlops-{name}:test" for name in ("platform", "postgres", "moto")}
# What a pod of the platform's image imports: links to the packages that the production image has, and to the stand-ins
IN_PLATFORM = ("images/platform.lock", "tests/cluster/images/stand-ins.lock")
FOLDERS = {
    "packages": Path(pandas.__file__).resolve().parent.parent,
    "platform-packages": PROJECT / ".mlops/test-cluster/platform-packages",
}
VOLUMES = [{"name": name, "persistentVolumeClaim": {"claimName": name, "readOnly": True}} for name in FOLDERS]
MOUNTS = [{"name": name, "mountPath": f"/opt/{name}", "readOnly": True} for name in FOLDERS]
CONTEXT = "DAGSTER_CONTAINER_CONTEXT"


def with_packages(documents: list[dict[str, Any]], namespace: str) -> list[dict[str, Any]]:
    """The documents with the volumes in every pod of the test images, and the run and step pods told of them."""
    link_platform_packages()
    for document in documents:
        pod = document.get("spec", {}).get("template", {}).get("spec", {})
        users = [c for c in [*pod.get("initContainers", []), *pod.get("containers", [])] if c["image"] in IMAGES]
        for container in users:
            container.setdefault("volumeMounts", []).extend(MOUNTS)
            for variable in container.get("env", []):
                if variable["name"] == CONTEXT:
                    context = json.loads(variable["value"])
                    context["k8s"] |= {"volumes": VOLUMES, "volume_mounts": MOUNTS}
                    variable["value"] = json.dumps(context)
        if users:
            pod.setdefault("volumes", []).extend(VOLUMES)
    volumes = [item for name, folder in FOLDERS.items() for item in _volume(namespace, name, folder)]
    return [*documents, *volumes, *_for_transformers(namespace)]


def link_platform_packages(folder: Path = FOLDERS["platform-packages"]) -> None:
    """Fill a folder with links, as pods will see them, to what the distributions of the lock files consist of."""
    wanted = {"__pycache__"}  # of modules that are one file
    for lock in IN_PLATFORM:
        for distribution in re.findall(r"^([^\s=]+)==", (PROJECT / lock).read_text(), re.M):
            try:
                files = importlib.metadata.files(distribution) or []
            except importlib.metadata.PackageNotFoundError:
                continue  # of another kind of machine
            wanted |= {file.parts[0] for file in files if file.parts[0] != ".."}
    folder.mkdir(parents=True, exist_ok=True)
    found = {entry.name for entry in folder.iterdir()}
    for name in found - wanted:
        (folder / name).unlink()
    for name in wanted - found:
        (folder / name).symlink_to(f"/opt/packages/{name}")


def _volume(namespace: str, name: str, folder: Path) -> list[dict[str, Any]]:
    """A volume on a folder of this machine, read-only; Pod Security allows claims, not host paths."""
    size = {"storage": "10Gi"}
    volume = f"{namespace}-{name}"
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                "capacity": size,
                "accessModes": ["ReadOnlyMany"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "",
                "claimRef": {"namespace": namespace, "name": name},
                "hostPath": {"path": str(folder), "type": "Directory"},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "accessModes": ["ReadOnlyMany"],
                "storageClassName": "",
                "volumeName": volume,
                "resources": {"requests": size},
            },
        },
    ]


def _for_transformers(namespace: str) -> list[dict[str, Any]]:
    """Gives the volumes to the pods that KServe makes of the platform's image."""
    name, version = f"{namespace}-packages", "admissionregistration.k8s.io/v1"
    volume, mount = "Object.spec.volumes", "Object.spec.containers.volumeMounts"
    patches = [
        f'JSONPatch{{op: "add", path: "{path}/-", value: {value}}}'
        for folder in FOLDERS
        for path, value in (
            (
                "/spec/volumes",
                f'{volume}{{name: "{folder}", persistentVolumeClaim: '
                f'{volume}.persistentVolumeClaim{{claimName: "{folder}", readOnly: true}}}}',
            ),
            (
                "/spec/containers/0/volumeMounts",
                f'{mount}{{name: "{folder}", mountPath: "/opt/{folder}", readOnly: true}}',
            ),
        )
    ]
    policy = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "objectSelector": {"matchLabels": {"component": "transformer"}},
            "resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
            ],
        },
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": f"[{', '.join(patches)}]"}}],
    }
    return [
        {"apiVersion": version, "kind": f"MutatingAdmissionPolicy{kind}", "metadata": {"name": name}, "spec": spec}
        for kind, spec in (("", policy), ("Binding", {"policyName": name}))
    ]
