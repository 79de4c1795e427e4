"""What the API server of Kubernetes says about an object, by the CRD of its kind, without a cluster."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft202012Validator

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parents[1]
CRDS = Path(os.environ.get("MLOPS_CRDS", PROJECT.parent / "shared" / "crds"))


def problems(manifest: dict[str, Any]) -> list[str]:
    """What of an object its CRD refuses, and what it would drop without a word."""
    schema = schema_of(manifest["apiVersion"], manifest["kind"])
    given = {key: value for key, value in manifest.items() if key != "metadata"}
    wrong = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(given)]
    return wrong + [f"{path}: no such field" for path in _unknown(given, schema, "$")]


@functools.cache
def schema_of(api_version: str, kind: str) -> dict[str, Any]:
    """The schema of a kind; the test is skipped where its CRD is not there."""
    group, _, version = api_version.partition("/")
    for path in sorted(CRDS.rglob(f"{group}_*.yaml")):
        found = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if found["spec"]["names"]["kind"] == kind:
            [schema] = [item["schema"] for item in found["spec"]["versions"] if item["name"] == version]
            return schema["openAPIV3Schema"]
    pytest.skip(f"no CRD of {kind} to compare with at {CRDS}; MLOPS_CRDS names their folder")


def _unknown(value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown(item, schema.get("items", {}), f"{path}[{index}]")
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        inner = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
        if inner is None and path != "$":
            yield f"{path}.{key}"
        elif isinstance(inner, dict):
            yield from _unknown(item, inner, f"{path}.{key}")
