"""All models' YAMLs: every problem of every file, with file and line, and nothing trained.

Beside what loading checks, the classes that `train` names are imported and their params held against their signatures.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from dagster_shared.yaml_utils import parse_yamls_with_source_position
from pydantic import ValidationError

from mlops_assets.cli.check_classes import example_problems, training_problems
from mlops_assets.components.defined_models import DEFS, model_files
from mlops_assets.ml.errors import SpecError
from mlops_assets.ml.values import did_you_mean
from mlops_assets.spec.json_schema import schema
from mlops_assets.spec.load_spec import load_spec
from mlops_assets.spec.yaml_text import check_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from dagster_shared.yaml_utils.source_position import SourcePositionTree

    from mlops_assets.spec.model_spec import ModelSpec

PIPELINE = "mlops_assets.ModelPipeline"


class Checked(NamedTuple):
    """What was looked at, and what is wrong, a line each."""

    files: int
    models: tuple[str, ...]
    problems: tuple[str, ...]


def check(paths: Sequence[Path] = ()) -> Checked:
    """Check these files, and the defs.yaml of these folders and those below them; of the project when none is given.

    Raises:
        SpecError: a path does not exist, or there is no defs.yaml below it.
    """
    files = list(dict.fromkeys(file for path in paths or [DEFS] for file in _files(path)))
    problems, names = list[str](), dict[str, str]()
    for file in files:
        lines = [line for problem in _problems(file, names) for line in str(problem).splitlines()]
        problems += sorted(lines, key=_line_number)
    return Checked(len(files), tuple(names), tuple(problems))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.exists():
        raise SpecError(f"there is no {path}", remedy="give a defs.yaml, or a folder that holds some")
    found = model_files(path)
    if not found:
        raise SpecError(
            f"there is no defs.yaml in {path}", remedy="give another folder, or write one: mlops-assets init"
        )
    return found


def _problems(file: Path, names: dict[str, str]) -> Iterator[SpecError]:
    """What is wrong in a file; `names` has the place of each model so far."""
    shown = _shown(file)
    try:
        text = file.read_text()
        documents = parse_yamls_with_source_position(text, shown)
    except (OSError, UnicodeDecodeError) as error:
        yield SpecError(f"it cannot be read ({error})", where=shown, remedy="correct the file")
        return
    except yaml.YAMLError as error:
        yield _no_yaml(error, shown)
        return
    try:
        check_keys(text, shown)
    except SpecError as error:
        yield error
    if not documents:
        yield SpecError("it is empty", where=shown, remedy=f"write a model, with type: {PIPELINE}")
    for document in documents:
        yield from _problems_of_document(document.value, document.source_position_tree, shown, names)


def _no_yaml(error: yaml.YAMLError, shown: str) -> SpecError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = getattr(error, "problem", None) or " ".join(str(error).split())
    where = f"{shown}:{mark.line + 1}" if mark else shown
    return SpecError(f"this is no YAML ({said})", where=where, remedy="correct it; text with : or # needs quotes")


def _problems_of_document(
    value: Any, positions: SourcePositionTree, file: str, names: dict[str, str]
) -> Iterator[SpecError]:
    def told(message: str, *path: str | int) -> SpecError:
        position, _ = positions.lookup_closest_and_path(path, None)
        field = ".".join(str(part) for part in path if part != "attributes")
        what, _, remedy = message.partition("; ")
        where = f"{file}:{position.start.line}"
        return SpecError(what, where=f"{where}: {field}" if field else where, remedy=remedy)

    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        yield told(f"this is no component; write type: {PIPELINE}, and the model under attributes")
        return
    problem = _type_problem(value["type"])
    if problem is None:
        return
    if problem:
        yield told(problem, "type")
        return
    known = schema()["properties"]
    for key in value.keys() - known.keys():
        hint = did_you_mean(str(key), known)
        yield told(f"there is no such key{hint}; allowed beside the attributes: {', '.join(known)}", str(key))
    attributes = value.get("attributes")
    if not isinstance(attributes, dict):
        yield told("the model is missing; write it under attributes", "attributes")
        return
    spec: ModelSpec | None = None
    try:
        spec = load_spec(attributes, positions, file)
    except SpecError as error:
        yield error
    model = attributes.get("model")
    if isinstance(model, str):
        place = f"{file}:{positions.lookup_closest_and_path(('attributes', 'model'), None)[0].start.line}"
        if model in names:
            what = f"model {model} is defined in {names[model]} as well; rename one, or remove a file"
            yield told(what, "attributes", "model")
        names.setdefault(model, place)
    for path, message in _of_classes(attributes, spec):
        yield told(message, "attributes", *path)


def _of_classes(attributes: dict[str, Any], spec: ModelSpec | None) -> Iterator[tuple[Iterable[str | int], str]]:
    """What is wrong with what is imported; also where other fields are wrong."""
    from mlops_assets.spec.model_spec import Train
    from mlops_assets.spec.source import Source

    try:
        train = spec.train if spec else Train.model_validate(attributes.get("train"))
        for path, message in training_problems(train.config, spec.task if spec else None):
            yield ("train", *path), message
    except ValidationError:
        pass  # said before
    try:
        source = spec.source if spec else Source.model_validate(attributes.get("source"))
        for message in example_problems(source.example):
            yield ("source", "example"), message
    except ValidationError:
        pass  # said before
    for name, view in spec.features.from_store.items() if spec else ():
        for message in example_problems(view.source.example):
            yield ("features", "from_store", name, "source", "example"), message


def _type_problem(kind: str) -> str | None:
    """What is wrong with a component's type; nothing where it is a pipeline, None where it is another component."""
    if kind == PIPELINE:
        return ""
    import importlib

    from mlops_assets.components.model_pipeline import ModelPipeline

    module, _, name = kind.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        hint = did_you_mean(kind, [PIPELINE]) or f" ({type(error).__name__}: {error})"
        return f"there is no component {kind}{hint}; correct the type"
    return "" if isinstance(found, type) and issubclass(found, ModelPipeline) else None


def _line_number(problem: str) -> int:
    found = re.search(r":(\d+): ", problem)
    return int(found[1]) if found else 0


def _shown(file: Path) -> str:
    here = Path.cwd()
    whole = file.absolute()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else whole)
