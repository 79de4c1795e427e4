"""Brings the packages of `make setup` into the pods of the test image by a volume; see images/Dockerfile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas

from tests.cluster.cluster import LOCAL

IMAGES = {f"{LOCAL}/mlops-{name}:test" for name in ("assets", "postgres", "moto")}
NAME = "packages"
VOLUME = {"name": NAME, "persistentVolumeClaim": {"claimName": NAME, "readOnly": True}}
MOUNT = {"name": NAME, "mountPath": "/opt/packages", "readOnly": True}


def with_packages(documents: list[dict[str, Any]], namespace: str) -> list[dict[str, Any]]:
    """The documents with the volume in every pod of the test images, and the run and step pods told of it."""
    for document in documents:
        pod = document.get("spec", {}).get("template", {}).get("spec", {})
        users = [c for c in [*pod.get("initContainers", []), *pod.get("containers", [])] if c["image"] in IMAGES]
        for container in users:
            container.setdefault("volumeMounts", []).append(MOUNT)
        if users:
            pod.setdefault("volumes", []).append(VOLUME)
        if users and document["kind"] == "Deployment" and document["metadata"]["name"] == "dagster-code":
            context = {"k8s": {"volumes": [VOLUME], "volume_mounts": [MOUNT]}}
            variable = {"name": "DAGSTER_CONTAINER_CONTEXT", "value": json.dumps(context)}
            users[0].setdefault("env", []).append(variable)
    return [*documents, *_volume(namespace)]


def _volume(namespace: str) -> list[dict[str, Any]]:
    """A volume on a folder of this machine, read-only; Pod Security allows claims, not host paths."""
    size = {"storage": "10Gi"}
    name = f"{namespace}-{NAME}"
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": size,
                "accessModes": ["ReadOnlyMany"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "",
                "claimRef": {"namespace": namespace, "name": NAME},
                "hostPath": {"path": str(Path(pandas.__file__).resolve().parent.parent), "type": "Directory"},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": NAME, "namespace": namespace},
            "spec": {
                "accessModes": ["ReadOnlyMany"],
                "storageClassName": "",
                "volumeName": name,
                "resources": {"requests": size},
            },
        },
    ]
