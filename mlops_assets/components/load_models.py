"""All models of a project, each by itself: a mistake in one YAML takes its own model out, and the others run."""

from __future__ import annotations

import gc
import logging
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import dagster as dg

from mlops_assets.components.defined_models import FILE, defines_others, model_files
from mlops_assets.components.folders import declare, declare_folder
from mlops_assets.components.model_pipeline import ModelPipeline
from mlops_assets.ml.errors import SpecError
from mlops_assets.spec.model_spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable
    from pathlib import Path

    from dagster.components.core.decl import ComponentDecl

# `dg check defs` and `dagster definitions validate` set it: there, a mistake is an error
VALIDATING = "DAGSTER_IS_DEFS_VALIDATION_CLI"


class LoadedModels(NamedTuple):
    """The definitions of models, and their specs, but for those that are broken."""

    definitions: dg.Definitions
    specs: list[ModelSpec]


def load_models(tree: dg.ComponentTree, wanted: Collection[str] = ()) -> LoadedModels:
    """What all folders below the project's `defs` define; a broken one is an asset that fails with the reason.

    Where models are `wanted`, the YAMLs that plainly define others are left out, which saves most of the time in a
    process that runs a step of one model among many.

    Raises:
        SpecError: one is broken, and definitions are being validated; or a model that is wanted is not there.
    """
    # Building the tree without a path would also import the components of every installed package, for the UI's
    # catalogue, which takes longer than everything else here together
    with _without_collecting():
        loaded = _Loading(tree, frozenset(wanted))
        if not loaded.files.keys() >= set(wanted):
            # The name comes from a template, or is that of a broken folder, or what Python files name their assets by
            loaded = _Loading(tree, frozenset())
    missing = sorted(set(wanted) - loaded.names)
    if missing:
        what = f"no YAML defines {', '.join(missing)}, which MLOPS_MODELS names"
        remedy = f"there are {', '.join(sorted(loaded.files)) or 'no models'}; or unset it to load all"
        raise SpecError(what, where=str(tree.defs_module_path), remedy=remedy)
    return LoadedModels(loaded.definitions, loaded.specs)


@contextmanager
def _without_collecting() -> Generator[None]:
    """Keep the garbage collector off: definitions stay, and looking at all of them again and again for others that do
    not takes a fifth of the time.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


class _Loading:
    """What was found in the folders below a project's `defs`.

    `files` has the file of each model, and `names` what a run may name: models, broken ones, and the first parts of the
    keys of all assets.
    """

    def __init__(self, tree: dg.ComponentTree, wanted: frozenset[str]) -> None:
        self.tree, self.wanted = tree, wanted
        self.files, self.broken = dict[str, str](), dict[str, str]()
        self.parts, self.specs = list[dg.Definitions](), list[ModelSpec]()
        self._folder(tree.defs_module_path)
        for folder, reason in self.broken.items():
            self.parts.append(_broken(folder, reason, {*self.files}))
        self.definitions = dg.Definitions.merge(*self.parts)
        assets: Iterable[Any] = self.definitions.assets or ()
        self.names = {key.path[0] for asset in assets for key in getattr(asset, "keys", [getattr(asset, "key", None)])}

    def _folder(self, path: Path) -> ComponentDecl:
        """Load what is in a folder, and in the folders in it."""
        children: dict[Path, ComponentDecl] = {}
        for inner in sorted(path.iterdir()):
            if _holds_definitions(inner) and not self._left_out(inner):
                whole = inner.is_dir() and not (inner / FILE).exists() and model_files(inner)
                declared = self._folder(inner) if whole else self._component(inner)
                if declared is not None:
                    children[inner] = declared
        return declare_folder(self.tree, path, children)

    def _left_out(self, path: Path) -> bool:
        return bool(self.wanted) and (path / FILE).exists() and defines_others(path / FILE, self.wanted)

    def _component(self, path: Path) -> ComponentDecl | None:
        try:
            declared = declare(self.tree, path)
            component = self.tree.load_structural_component_at_loc(path)
            inner = getattr(component, "components", [component])
            pipelines = [pipeline for pipeline in inner if isinstance(pipeline, ModelPipeline)]
            for pipeline in pipelines:
                _only_one(pipeline, self.files)
            self.parts.append(self.tree.build_defs(path))
            self.specs += [pipeline.spec for pipeline in pipelines]
        except Exception as error:
            cause = _spec_error(error)
            if os.environ.get(VALIDATING):
                if cause is None:
                    raise
                raise cause.with_traceback(None) from None  # told without Dagster's stack around it
            self.broken[path.name] = str(cause or error)
            return None
        return declared


def _holds_definitions(path: Path) -> bool:
    if path.is_dir():
        return path.name != "__pycache__" and any(path.iterdir())
    return path.suffix == ".py" and path.name != "__init__.py"


def _only_one(pipeline: ModelPipeline, files: dict[str, str]) -> None:
    model = pipeline.spec.model
    if model in files:
        what = f"model {model} is defined in {files[model]} as well"
        raise SpecError(what, where=pipeline.file, remedy="rename one, or remove a file")
    files[model] = pipeline.file


def _spec_error(error: BaseException | None) -> SpecError | None:
    while error is not None and not isinstance(error, SpecError):
        error = error.__cause__
    return error


def _broken(folder: str, reason: str, models: set[str]) -> dg.Definitions:
    """An asset and a job in the place of a model that cannot be loaded; they fail with the reason.

    They have the folder's name, unless that is the name of one of the `models` that are there.
    """
    logging.getLogger("mlops_assets").error("%s cannot be loaded and is left out: %s", folder, reason)
    name = re.sub(r"\W", "_", folder)
    name = f"{name}_broken" if name in models else name

    @dg.asset(
        key=[name, "broken"],
        group_name=name,
        description=f"This model cannot be loaded:\n\n{reason}",
        kinds={"yaml"},
        tags={"broken": ""},
    )
    def broken() -> None:
        raise dg.Failure(reason, allow_retries=False)

    job = dg.define_asset_job(name, selection=dg.AssetSelection.groups(name), description=reason)
    return dg.Definitions(assets=[broken], jobs=[job])
