"""The network that `train.network` names: made, and tried on a few rows before anything is spent on it."""

from __future__ import annotations

import sysconfig
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from mlops_assets.ml.errors import MlopsError, TrainingError
from mlops_assets.ml.import_paths import construct, import_class
from mlops_assets.ml.training.reproducible import random_state, reproducible, restore_random_state

if TYPE_CHECKING:
    from collections.abc import Generator

    from mlops_assets.ml.features.feature_set import FeatureSet
    from mlops_assets.ml.training.training_config import TrainingConfig
    from mlops_assets.ml.values import Task

TRIED_ROWS = 8
LONGEST_CAUSE = 300
LESS_MEMORY = "lower train.batch_size, or make the network smaller"
LIBRARIES = tuple(str(Path(sysconfig.get_path(name))) for name in ("stdlib", "purelib", "platlib"))
LOSSES: dict[Task, type[nn.Module]] = {
    "regression": nn.MSELoss,
    "binary_classification": nn.BCEWithLogitsLoss,
    "multiclass_classification": nn.CrossEntropyLoss,
}


def make_network(config: TrainingConfig, features: FeatureSet) -> nn.Module:
    """The network with fresh weights; lazy layers get theirs from one run of forward.

    Raises:
        TrainingError: it cannot be made with these params.
    """
    inputs = len(features.feature_names)
    with network_errors(config.network, "cannot be made"):
        network = construct(import_class(config.network), config.params, inputs=inputs, outputs=outputs_of(features))
        if any(is_lazy(tensor) for tensor in (*network.parameters(), *network.buffers())):
            with torch.no_grad():
                network.eval()(torch.zeros(TRIED_ROWS, inputs))
            network.train()
        return network


def outputs_of(features: FeatureSet) -> int:
    """The scores of a row: one for each class, or one for two classes and for regression."""
    return len(features.classes or ()) if features.task == "multiclass_classification" else 1


def rehearse(config: TrainingConfig, features: FeatureSet) -> None:
    """Run a fresh network on a few rows as serving, training and a checkpoint will, which takes some milliseconds.

    Raises:
        TrainingError: forward gives another shape than (rows, outputs), or fails; or what it answers depends on the
            rows beside a row, or on more than what a checkpoint holds.
    """
    name, outputs = config.network, outputs_of(features)
    with reproducible(config.seed), network_errors(name, "cannot be run"):
        x = torch.rand(TRIED_ROWS, len(features.feature_names))  # as scaled numbers and shares of categories may be
        first, second = make_network(config, features), make_network(config, features)
        answers = [_answers(name, first, x, outputs) for _ in range(2)]
        if not _same(*answers):
            remedy = "use nn.Dropout, or pass training=self.training to the functional form"
            raise TrainingError(
                f"{name} answers differently each time in eval mode", where="train.network", remedy=remedy
            )
        one_by_one = torch.cat([_answers(name, first, row, outputs) for row in x.split(1)])
        if not torch.allclose(one_by_one, answers[0], rtol=1e-3, atol=1e-5, equal_nan=True):
            raise _mixes_rows(name)
        batch = x[: max(1, min(TRIED_ROWS, config.batch_size))]
        target = torch.zeros(len(batch), dtype=torch.long)
        if features.task != "multiclass_classification":
            target = torch.zeros(len(batch), outputs)
        loss = LOSSES[features.task]()(_scores(name, first.train(), batch, outputs).float(), target)
        loss.backward()
        _goes_on_from_a_checkpoint(name, first, second.train(), batch, outputs)
        if not _same(_answers(name, first, x, outputs), _answers(name, second, x, outputs)):
            raise _forgetful(name)


def _mixes_rows(name: str) -> TrainingError:
    what = f"{name} answers a row differently when others are beside it, so no served answer would be the judged one"
    remedy = (
        "compute along dimension 1, the features, and not along the rows (batch_first=True in layers for sequences, "
        "track_running_stats=True in BatchNorm)"
    )
    return TrainingError(what, where="train.network", remedy=remedy)


def _goes_on_from_a_checkpoint(
    name: str, first: nn.Module, second: nn.Module, batch: torch.Tensor, outputs: int
) -> None:
    """Whether `second`, with the state of `first` as a checkpoint keeps it, answers the next batch as `first` does."""
    state = first.state_dict()
    other = [key for key, value in state.items() if not isinstance(value, torch.Tensor)]
    if other:
        what = f"{name} has a state that no checkpoint holds: {', '.join(other)} is no tensor"
        remedy = "keep it in parameters and buffers"
        raise TrainingError(what, where="train.network", remedy=remedy)
    second.load_state_dict(state)
    generators = random_state()
    wanted = _scores(name, first, batch, outputs)
    restore_random_state(*generators)
    if not _same(wanted, _scores(name, second, batch, outputs)):
        raise _forgetful(name)


def _forgetful(name: str) -> TrainingError:
    what = (
        f"{name} answers differently after a checkpoint: it keeps state outside of its parameters and persistent "
        "buffers, or has random numbers of its own"
    )
    remedy = "keep state with register_buffer, and draw from the generators of torch, numpy and random"
    return TrainingError(what, where="train.network", remedy=remedy)


def _answers(name: str, network: nn.Module, x: torch.Tensor, outputs: int) -> torch.Tensor:
    with torch.inference_mode():
        return _scores(name, network.eval(), x, outputs)


def _scores(name: str, network: nn.Module, x: torch.Tensor, outputs: int) -> torch.Tensor:
    """What forward gives, which must be a tensor (rows, outputs)."""
    scores: object = network(x)
    wanted, remedy = (len(x), outputs), "give one score for each row and output"
    if not isinstance(scores, torch.Tensor):
        what = f"forward of {name} gives a {type(scores).__name__}, wanted a tensor of shape {wanted}"
        raise TrainingError(what, where="train.network", remedy=remedy)
    if tuple(scores.shape) != wanted:
        what = f"forward of {name} gives {tuple(scores.shape)}, wanted {wanted}"
        raise TrainingError(what, where="train.network", remedy=remedy)
    return scores


def _same(left: torch.Tensor, right: torch.Tensor) -> bool:
    return torch.allclose(left, right, rtol=0, atol=0, equal_nan=True)


@contextmanager
def network_errors(name: str, what: str) -> Generator[None]:
    """What the network's code raises becomes one TrainingError: `name` and `what`, the cause and its line.

    Among several workers only what goes back to a line of the user does: what else is raised there is a lost peer.
    """
    try:
        yield
    except (MlopsError, OSError, MemoryError):
        raise
    except Exception as error:
        place = _line_of_the_user(error)
        if not place and torch.distributed.is_available() and torch.distributed.is_initialized():
            raise
        remedy = LESS_MEMORY if is_out_of_memory(error) else "correct the network"
        where = f" ({place})" if place else ""
        raise TrainingError(f"{name} {what}: {cause_of(error)}{where}", where="train.network", remedy=remedy) from error


@contextmanager
def memory_errors() -> Generator[None]:
    """What the arrays, the weights or the optimiser's state do not find room for becomes a TrainingError."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(f"The training does not fit the memory: {cause_of(error)}", remedy=LESS_MEMORY) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch found no room, on a GPU or on the CPU, where it has no type of its own for that."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def cause_of(error: BaseException) -> str:
    """What a library's exception says, in one line: the first line of the exception that it goes back to."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= LONGEST_CAUSE else f"{text[: LONGEST_CAUSE - 3]}..."


def _line_of_the_user(error: BaseException) -> str:
    """File and line of the innermost frame that is neither a library's nor ours."""
    ours = str(Path(__file__).parent)
    found = ""
    chain: BaseException | None = error
    while chain is not None:
        for frame in traceback.extract_tb(chain.__traceback__):
            if not frame.filename.startswith((*LIBRARIES, ours, "<")):
                found = f"{Path(frame.filename).name}:{frame.lineno}"
        chain = chain.__cause__
    return found
