"""The models that the YAMLs of a project define: which files there are, and the names in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mlops_assets.components.read_yaml import read_yaml
from mlops_assets.ml.errors import SpecError
from mlops_assets.spec.load_spec import load_spec

if TYPE_CHECKING:
    from collections.abc import Collection

    from mlops_assets.spec.model_spec import ModelSpec

DEFS = Path(__file__).parent.parent / "defs"
FILE = "defs.yaml"
PLAIN_NAME = re.compile(r"""(?:^|[{,\s])["']?model["']?\s*:\s*["']?(\w+)["']?\s*(?=[,}#\n]|\Z)""", re.MULTILINE)


def model_files(root: Path) -> list[Path]:
    """The YAMLs in a folder and below it."""
    return sorted(root.rglob(FILE))


def defined_models(root: Path = DEFS) -> dict[str, str]:
    """The models that YAMLs define, with their files; one that cannot be read defines what it seems to."""
    found = dict[str, str]()
    for file in model_files(root):
        for name in _names(file):
            found.setdefault(name, str(file))
    return found


def defined_spec(model: str, root: Path = DEFS) -> ModelSpec | None:
    """The spec of a model, None where no YAML defines it by this name.

    Raises:
        SpecError: its YAML is broken.
    """
    for file in model_files(root):
        if model not in _names(file):
            continue
        for document in _documents(file):
            attributes = document.value.get("attributes") if isinstance(document.value, dict) else None
            if isinstance(attributes, dict) and attributes.get("model") == model:
                return load_spec(attributes, document.source_position_tree, str(file))
    return None


def defined_specs(root: Path = DEFS) -> tuple[dict[str, ModelSpec], list[str]]:
    """The specs of all models whose YAML is right, and the files of those whose is not."""
    found: dict[str, ModelSpec] = {}
    broken: list[str] = []
    for file in model_files(root):
        try:
            for document in _documents(file):
                attributes = document.value.get("attributes") if isinstance(document.value, dict) else None
                if isinstance(attributes, dict) and "model" in attributes:
                    spec = load_spec(attributes, document.source_position_tree, str(file))
                    found.setdefault(spec.model, spec)
        except SpecError:
            broken.append(str(file))
    return found, broken


def _documents(file: Path) -> list[Any]:
    try:
        return read_yaml(file.read_text(), str(file))
    except yaml.YAMLError as error:
        raise SpecError("this is no YAML", where=str(file), remedy="mlops-assets check says where") from error


def defines_others(file: Path, models: Collection[str]) -> bool:
    """Whether a YAML plainly defines models and none of `models`: its text alone is looked at, which takes no time.

    A file that names a model by a template, or none at all, may define any.
    """
    named = PLAIN_NAME.findall(file.read_text(errors="replace"))
    return bool(named) and not set(named) & set(models)


def _names(file: Path) -> list[str]:
    text = file.read_text(errors="replace")
    try:
        documents: list[Any] = list(yaml.safe_load_all(text))
    except yaml.YAMLError:
        return [*re.findall(r"^\s+model:\s*[\"']?(\w+)", text, re.MULTILINE), file.parent.name]
    attributes = [document.get("attributes") for document in documents if isinstance(document, dict)]
    return [str(given["model"]) for given in attributes if isinstance(given, dict) and "model" in given]
