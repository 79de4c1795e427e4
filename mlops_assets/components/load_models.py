"""All models of a project, each by itself: a mistake in one YAML takes its own model out, and the others run."""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING

import dagster as dg

from mlops_assets.components.defined_models import FILE, model_files
from mlops_assets.components.model_pipeline import ModelPipeline
from mlops_assets.ml.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path

# `dg check defs` and `dagster definitions validate` set it: there, a mistake is an error
VALIDATING = "DAGSTER_IS_DEFS_VALIDATION_CLI"


def load_models(tree: dg.ComponentTree) -> dg.Definitions:
    """The definitions of all folders below the project's `defs`; a broken one is an asset that fails with the reason.

    Raises:
        SpecError: one is broken, and definitions are being validated.
    """
    # Building the tree without a path would also import the components of every installed package, for the UI's
    # catalogue, which takes longer than everything else here together
    root, files, broken = tree.defs_module_path, dict[str, str](), dict[str, str]()
    parts = [_folder(tree, path, files, broken) for path in sorted(root.iterdir()) if _holds_definitions(path)]
    return dg.Definitions.merge(*parts, *(_broken(name, reason, {*files}) for name, reason in broken.items()))


def _holds_definitions(path: Path) -> bool:
    if path.is_dir():
        return path.name != "__pycache__" and any(path.iterdir())
    return path.suffix == ".py" and path.name != "__init__.py"


def _folder(tree: dg.ComponentTree, path: Path, files: dict[str, str], broken: dict[str, str]) -> dg.Definitions:
    """The definitions of a folder of `defs`, or of the folders in it.

    `files` gets the file of each model, and `broken` the reason for each folder that cannot be loaded.
    """
    if path.is_dir() and not (path / FILE).exists() and model_files(path):
        return dg.Definitions.merge(
            *(_folder(tree, inner, files, broken) for inner in sorted(path.iterdir()) if _holds_definitions(inner))
        )
    try:
        component = tree.load_structural_component_at_loc(path)
        for pipeline in getattr(component, "components", [component]):
            if isinstance(pipeline, ModelPipeline):
                _only_one(pipeline, files)
        return tree.build_defs(path)
    except Exception as error:
        cause = _spec_error(error)
        if os.environ.get(VALIDATING):
            if cause is None:
                raise
            raise cause.with_traceback(None) from None  # told without Dagster's stack around it
        broken[path.name] = str(cause or error)
        return dg.Definitions()


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
