"""What a YAML names by import path, imported: whether it is there, and takes the params that are given."""

from __future__ import annotations

import importlib
import inspect
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.import_paths import is_without_torch
from mlops_assets.ml.training.training_config import nested_estimators
from mlops_assets.ml.values import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlops_assets.ml.training.training_config import TrainingConfig
    from mlops_assets.ml.values import Task


class _Wrong(Exception):
    """Something cannot be imported; the message says what and what to do."""


def training_problems(config: TrainingConfig, task: Task | None) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Path below `train` and message of what is wrong with the network or estimator and its params."""
    try:
        kind = _class_at(config.network)
    except _Wrong as error:
        yield ("network",), str(error)
        return
    if _is_torch(kind):
        yield from _params_fit(kind, config.params, ("params",), given=("inputs", "outputs"))
        return
    if hasattr(kind, "to_onnx"):
        return  # a learner of its own says itself what its params are
    wanted = ("fit", *(["predict" if task == "regression" else "predict_proba"] if task else []))
    for method in wanted:
        if not hasattr(kind, method):
            reason = "an estimator must have it" if method == "fit" else f"{task} needs it"
            remedy = "choose another estimator, a torch.nn.Module or a learner"
            yield ("network",), f"{config.network} has no {method}, and {reason}; {remedy}"
            return
    yield from _params_fit(kind, config.params, ("params",))
    for field, nested in nested_estimators(config.params):
        path = tuple(int(part) if part.isdigit() else part for part in field.split("."))
        try:
            inner = _class_at(nested["class"])
        except _Wrong as error:
            yield (*path, "class"), str(error)
            continue
        yield from _params_fit(inner, nested.get("params") or {}, (*path, "params"))


def example_problems(example: str | None) -> Iterator[str]:
    """What is wrong with the function that writes example data."""
    if example is None:
        return
    try:
        found = _at(example)
    except _Wrong as error:
        yield str(error)
        return
    if not callable(found):
        yield f"{example} is no function; name one that takes a folder"


def _params_fit(
    kind: type[Any], params: Mapping[str, Any], path: tuple[str | int, ...], given: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Whether the constructor takes the params, and whether all it needs is among them and what is `given`."""
    try:
        parameters = list(inspect.signature(kind).parameters.values())
    except (TypeError, ValueError):
        return  # written in C, without a signature
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [p.name for p in named]
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for name in given:
        if name not in names and not takes_all:
            yield ("network",), f"{kind.__name__} does not take {name}; let its constructor take {' and '.join(given)}"
    own = [name for name in names if name not in given]
    for name in params:
        if name in given:
            yield (*path, name), f"{name} comes from the data; remove it"
        elif name not in names and not takes_all:
            what = f"{kind.__name__} has no such parameter{did_you_mean(name, own)}"
            yield (*path, name), f"{what}; it takes {', '.join(own) or 'none'}"
    missing = [p.name for p in named if p.default is p.empty and p.name not in (*params, *given)]
    if missing:
        yield path, f"{kind.__name__} needs {', '.join(missing)}; add it"


def _class_at(path: str) -> type[Any]:
    found = _at(path)
    if not isinstance(found, type):
        raise _Wrong(f"{path} is no class; name a torch.nn.Module, a scikit-learn estimator or a learner")
    return found


def _at(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        home = importlib.import_module(module)
    except Exception as error:
        if is_without_torch(error):
            remedy = "check it where torch is, as after make setup or in the image mlops-trainer"
            raise _Wrong(f"{module} needs torch, which is not installed here; {remedy}") from error
        raise _Wrong(f"{module} cannot be imported ({_told(error)}); correct it") from error
    try:
        return getattr(home, name)
    except AttributeError:
        known = [known for known in dir(home) if not known.startswith("_")]
        raise _Wrong(f"{module} has no {name}{did_you_mean(name, known)}; correct the path") from None


def _told(error: Exception) -> str:
    """What went wrong while a module was imported, and in which line."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    place = f", {Path(frames[-1].filename).name}:{frames[-1].lineno}" if len(frames) > 1 else ""
    said = (str(error).splitlines() or [""])[0]
    if isinstance(error, SyntaxError):
        said, place = error.msg, f", {Path(error.filename or '').name}:{error.lineno}"
    return f"{type(error).__name__}: {said}{place}"


def _is_torch(kind: type[Any]) -> bool:
    return any(base.__module__.startswith("torch.nn.") and base.__name__ == "Module" for base in kind.__mro__)
