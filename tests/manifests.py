"""The manifests of k8s/ as kustomize renders them, without a cluster."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.cluster import write_secrets

PROJECT = Path(__file__).resolve().parents[1]
OVERLAYS = ("test", "staging", "production", "team-b")

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which renders k8s/, is not there")


@functools.cache
def rendered(overlay: str, *replaced: tuple[str, str]) -> list[dict[str, Any]]:
    """The objects of an overlay, after replacements in its kustomization.yaml; not to be changed by who reads them."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = shutil.copytree(
            PROJECT / "k8s", Path(scratch) / "k8s", ignore=shutil.ignore_patterns("terraform", "*.env")
        )
        folder = copy / "overlays" / overlay
        write_secrets(copy / "overlays" / "test")
        kustomization = folder / "kustomization.yaml"
        text = kustomization.read_text()
        for old, new in replaced:
            assert old in text, f"{old!r} is not in {kustomization}"
            text = text.replace(old, new)
        kustomization.write_text(text)
        answer = subprocess.run(["kubectl", "kustomize", str(folder)], text=True, capture_output=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return [item for item in yaml.safe_load_all(answer.stdout) if item]


def of_kind(objects: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    """The objects of some kinds."""
    return [item for item in objects if item["kind"] in kinds]


def named(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The one object of a kind and name."""
    [found] = [item for item in of_kind(objects, kind) if item["metadata"]["name"] == name]
    return found
