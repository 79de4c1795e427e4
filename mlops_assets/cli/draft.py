"""A first YAML for a file of rows: columns, types, task, estimator and gate, read off the rows.

What a person should decide stands in comments.
"""

from __future__ import annotations

import filecmp
import json
import re
from typing import TYPE_CHECKING

from mlops_assets.cli.check import check
from mlops_assets.cli.inspect_file import inspect_file
from mlops_assets.components.defined_models import DEFS
from mlops_assets.components.scaffold import modeline
from mlops_assets.ml.data.classes import MAX_CLASSES
from mlops_assets.ml.data.contract import RFC_4180, Prepare
from mlops_assets.ml.errors import DataError, SpecError
from mlops_assets.ml.values import LONGEST_MODEL_NAME, MODEL_NAME, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlops_assets.cli.inspect_file import ColumnFacts, FileFacts
    from mlops_assets.ml.values import Task
    from resources.lake.lake import Lake

SUFFIXES = (".parquet", ".csv", ".csv.gz")
MARGIN = 0.05  # of the share of dropped rows, for files that come later
FEW_CLASSES, ROWS_OF_CLASS = 20, 10  # whole numbers with more values, or fewer rows of one, are taken for quantities
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RESERVED = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}  # to YAML 1.1 these are no texts
ESTIMATORS: dict[Task, str] = {
    "regression": "sklearn.linear_model.Ridge",
    "binary_classification": "sklearn.linear_model.LogisticRegression, params: {max_iter: 1000}",
    "multiclass_classification": "sklearn.linear_model.LogisticRegression, params: {max_iter: 1000}",
}


def init(name: str, file: Path, target: str, out: Path | None, lake: Lake) -> Iterator[str]:
    """Write the YAML of a model and copy its file into the lake; lines that say what was done, and what comes next.

    Raises:
        SpecError: the name, the target or the place cannot be.
        DataError: the file cannot be read, or no YAML fits it.
    """
    folder = out or DEFS / name
    written = folder / "defs.yaml"
    if not re.fullmatch(MODEL_NAME, name) or len(name) > LONGEST_MODEL_NAME:
        remedy = f"use at most {LONGEST_MODEL_NAME} lower case letters, digits and single underscores, a letter first"
        raise SpecError(f"{name!r} cannot be a model's name", remedy=remedy)
    suffix = next((suffix for suffix in SUFFIXES if file.name.endswith(suffix)), None)
    if suffix is None:
        raise SpecError(
            f"{file} is of no kind that is read", remedy=f"give a file that ends with {', '.join(SUFFIXES)}"
        )
    if written.exists():
        raise SpecError(f"{written} is there already", remedy="remove it, or give another name or --out")
    uri, key = f"{name}/*{suffix}", f"{name}/{file.name.lstrip('.')}"
    is_there = _is_there(lake, uri, key, file)
    facts = inspect_file(file)
    text = draft(name, facts, target, uri, modeline(folder))
    folder.mkdir(parents=True, exist_ok=True)
    written.write_text(text)
    if wrong := check([written]).problems:
        written.unlink()
        raise DataError("No YAML fits this file:\n" + "\n".join(wrong))
    if not is_there:
        lake.store.upload(file, key)
    yield f"{file}: {facts.rows:,} rows, in the lake as {key}"
    yield f"{written}: look through it, and then"
    yield f"  mlops-assets check {folder}"
    if folder.absolute().is_relative_to(DEFS):
        yield f"  dagster job execute -m mlops_assets.definitions -j {name}"
    else:
        yield f"  move {folder} into {DEFS}, where models are looked for"
        yield f"  dagster job execute -m mlops_assets.definitions -j {name}"


def _is_there(lake: Lake, uri: str, key: str, file: Path) -> bool:
    """Whether the lake has this file already, and no other that the model would read."""
    known = lake.list_sources(uri)
    remedy = "choose another name, or remove it from the lake"
    for item in known:
        if item.key != key:
            raise SpecError(f"the lake has another file for this name, {item.key}", remedy=remedy)
    if not known:
        return False
    with lake.sources(uri, known) as [path]:
        if not filecmp.cmp(path, file, shallow=False):
            raise SpecError(f"the lake has another file at {key}", remedy=remedy)
    return True


def draft(name: str, facts: FileFacts, target: str, uri: str, head: str = "") -> str:
    """The text of a defs.yaml.

    Raises:
        SpecError: there is no such column, it cannot be predicted, or nothing can be learnt from the others.
    """
    columns = {column.name: column for column in facts.columns}
    if target not in columns:
        if target in facts.left_out:
            raise SpecError(f"{target} cannot be the target: {facts.left_out[target]}", remedy="choose another one")
        hint = did_you_mean(target, columns)
        remedy = "correct --target" if hint else f"choose one of {', '.join(columns)}"
        if len(columns) == 1 and not hint:
            remedy = "the names of the columns must stand in its first line, with the delimiter of the other lines"
            what = f"{target} cannot be the target, the file has one column alone, {next(iter(columns))!r}"
            raise SpecError(what, remedy=remedy)
        raise SpecError(f"{target} cannot be the target, there is no such column{hint}", remedy=remedy)
    if columns[target].infinite_rows:
        raise SpecError(f"{target} cannot be the target: {columns[target].no_feature}", remedy="choose another one")
    task, reason = _task(columns[target], facts.rows)
    features = [column for column in facts.columns if not column.no_feature and column.name != target]
    times = [column for column in facts.columns if column.type == "timestamp" and not column.missing]
    left_out = facts.left_out | {c.name: c.no_feature for c in facts.columns if c.no_feature and c.name != target}
    if not features:
        reasons = ", ".join(f"{other}: {why}" for other, why in left_out.items())
        raise SpecError(f"there is no column to learn from ({reasons})", remedy="give a file with some")
    contract = [column for column in facts.columns if column in features or column in times or column.name == target]
    lines = [
        *([head] if head else []),
        "type: mlops_assets.ModelPipeline",
        "attributes:",
        f"  model: {name}",
        "  description: What does it predict, and for whom?",
        f"  task: {task} # guessed: {reason}",
        "",
        "  # Relative to the lake; more files of the same columns may be put there.",
        "  source:",
        f"    uri: {_text(uri)}",
        *_csv(facts),
        *(f"    # event_time: {_text(time.name)} # when that is the time of the row" for time in times[:1]),
        "",
        f"  target: {{column: {_text(target)}}}",
        "",
        "  # The data contract: a row that breaks it stops the pipeline. Add min, max and values that must hold.",
        "  columns:",
        *(f"    {_text(column.name)}: {_column(column, is_target=column.name == target)}" for column in contract),
        "",
        "  prepare:",
        *_max_dropped(columns[target], facts.rows),
        "    split: {by: random, test: 0.2, validation: 0.1, seed: 42} # or by: time, or by: group with column",
        "",
        "  features:",
        "    use:",
        *(f"      - {_text(column.name)}" for column in features),
        *(f"      # not {_text(other)}: {why}" for other, why in left_out.items()),
        "",
        "  # A simple first model. Any scikit-learn estimator or torch.nn.Module can stand here.",
        f"  train: {{network: {ESTIMATORS[task]}}}",
        "",
        *_gate(task, columns[target], facts.rows),
    ]
    return "\n".join(lines) + "\n"


def _task(target: ColumnFacts, rows: int) -> tuple[Task, str]:
    """The task, and why it is guessed."""
    values = f"{target.distinct} different values"
    if target.distinct < 2:
        raise SpecError(f"{target.name} has {values}, so there is nothing to predict", remedy="choose another target")
    if target.type == "timestamp":
        remedy = "choose another target, or compute one from it with target.from"
        raise SpecError(f"{target.name} is a time, which cannot be predicted", remedy=remedy)
    are_classes = target.whole and target.distinct <= min(FEW_CLASSES, rows // 10)
    if target.type == "number" and not (are_classes and (target.distinct == 2 or target.rarest_rows >= ROWS_OF_CLASS)):
        return "regression", f"{target.name} is a number with {values}"
    if target.distinct > MAX_CLASSES:
        remedy = f"put rare ones together, so that {MAX_CLASSES} are left, or choose another target"
        raise SpecError(f"{target.name} has {values}, and classes may be {MAX_CLASSES}", remedy=remedy)
    if target.distinct == 2:
        return "binary_classification", f"{target.name} has {values}"
    if target.no_feature:
        raise SpecError(f"{target.name} cannot be predicted: {target.no_feature}", remedy="choose another target")
    return "multiclass_classification", f"{target.name} has {values}"


def _csv(facts: FileFacts) -> list[str]:
    given = {
        field: value
        for field, value in facts.csv.model_dump().items()
        if value != getattr(RFC_4180, field) and value is not None
    }
    shown = ", ".join(f"{field}: {json.dumps(value, ensure_ascii=False)}" for field, value in given.items())
    comment = f" # guessed: 1{facts.csv.thousands}234 is more than a thousand" if "thousands" in given else ""
    return [f"    csv: {{{shown}}}{comment}"] if given else []


def _column(column: ColumnFacts, *, is_target: bool) -> str:
    nullable = ", nullable: true" if column.missing and not is_target else ""
    comment = ""
    if column.missing:
        dropped = ", which are dropped" if is_target else ""
        comment = f" # missing in {column.missing:,} row{'s' if column.missing > 1 else ''}{dropped}"
    return f"{{type: {column.type}{nullable}}}{comment}"


def _max_dropped(target: ColumnFacts, rows: int) -> list[str]:
    share = target.missing / rows
    if share < Prepare().max_dropped - MARGIN:
        return []
    return [f"    max_dropped: {min(1, share + MARGIN):.2f} # {share:.1%} of the rows have no target"]


def _gate(task: Task, target: ColumnFacts, rows: int) -> list[str]:
    """The gate, a little above what knowing nothing gives."""
    if task == "regression":
        return ["  # Always answering the mean gives 0, never being wrong 1.", "  gate: {metric: r2, at_least: 0.1}"]
    if task == "binary_classification":
        return ["  # Guessing gives 0.5, never being wrong 1.", "  gate: {metric: roc_auc, at_least: 0.6}"]
    share = target.commonest_rows / (rows - target.missing)
    return [
        f"  # Always answering {_text(target.commonest)} gives {share:.2f}, never being wrong 1.",
        f"  gate: {{metric: accuracy, at_least: {share + 0.2 * (1 - share):.2f}}}",
    ]


def _text(text: str) -> str:
    """A text as YAML has it, in quotes where it would be read as something else."""
    is_plain = PLAIN.fullmatch(text) and text.lower() not in RESERVED
    return text if is_plain else json.dumps(text, ensure_ascii=False)
