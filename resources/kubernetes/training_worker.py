"""A pod of a training by several: torchrun's agent, and below it a worker for each GPU.

The agent's exit code tells what ended its first worker, as the shell would: 137 is a kill, 143 a stop on request.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from dagster_pipes import DAGSTER_PIPES_MESSAGES_ENV_VAR, encode_param, open_dagster_pipes

from mlops_assets.ml.errors import MlopsError, TrainingInterrupted
from mlops_assets.ml.training.learner import TrainingRun
from mlops_assets.ml.training.training_config import TrainingConfig
from mlops_assets.ml.values import Value
from resources.environment import Environment
from resources.kubernetes.step_pod import EXIT_TERMINATED, exit_now
from resources.lake.lake_checkpoints import LakeCheckpoints

if TYPE_CHECKING:
    from collections.abc import Callable


class TrainingOrder(Value):
    """What is to be trained, and where its parts lie in the lake."""

    features_prefix: str
    features_version: str
    checkpoints: str
    checkpoint_every: timedelta
    config: TrainingConfig


def main() -> int:
    """Run the agent, or a worker where torchrun has set its variables; the exit code."""
    if "LOCAL_RANK" in os.environ:
        return _work()
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    try:
        run(parse_args(["--module", "resources.kubernetes.training_worker"]))
    except SignalException:
        return EXIT_TERMINATED
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        return code if code > 0 else 128 - code
    return 0


def _work() -> int:
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    if os.environ["RANK"] != "0":  # one voice is enough
        os.environ[DAGSTER_PIPES_MESSAGES_ENV_VAR] = encode_param({"path": os.devnull})
    with open_dagster_pipes() as pipes:
        try:
            _train(TrainingOrder.model_validate(pipes.extras), pipes.log.info, lambda: bool(asked))
        except TrainingInterrupted as interruption:
            pipes.log.info(str(interruption))
            exit_now()
        except MlopsError as error:
            pipes.report_custom_message({"error": str(error)})
            return 1
    return 0


def _train(order: TrainingOrder, log: Callable[[str], None], stop_requested: Callable[[], bool]) -> None:
    from mlops_assets.ml.training.training_loop import train_share
    from mlops_assets.ml.training.workers import joined

    lake = Environment.read().lake()
    features = lake.fetch(order.features_prefix, order.features_version)
    checkpoints = LakeCheckpoints(lake.store, order.checkpoints)
    with joined() as workers:
        train_share(
            features, order.config, TrainingRun(checkpoints, order.checkpoint_every, stop_requested, log), workers
        )


if __name__ == "__main__":
    sys.exit(main())
