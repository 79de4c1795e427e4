"""What a stage costs, how fast the code location loads, and how long whole life cycles take."""

from __future__ import annotations

import sys

from bench.measure import Result, command_seconds, in_turn, result, scratch
from resources.environment import Environment
from resources.serving.local_serving import LocalServing

MATERIALIZE = [sys.executable, "-m", "dagster", "asset", "materialize"]
EXECUTE = [sys.executable, "-m", "dagster", "job", "execute"]
PORTS = {"SERVING_PORT": "18085", "MLFLOW_PORT": "15005"}


def stages(module: str) -> float:
    """Seconds for eight stages that do nothing."""
    with scratch() as home:
        return command_seconds([*MATERIALIZE, "-m", f"bench.stages.{module}", "--select", "*"], DAGSTER_HOME=str(home))


def life_cycle(model: str, mlflow_runs: bool = False) -> float:
    """Seconds of a model's first life cycle: nothing cached, no model server, no MLflow unless said."""
    with scratch() as home:
        (home / "dagster").mkdir()
        variables = {"MLOPS_HOME": str(home), "DAGSTER_HOME": str(home / "dagster"), **PORTS}
        environment = Environment.read(variables)
        try:
            if mlflow_runs:
                environment.mlflow_server().ensure_running()
            return command_seconds([*EXECUTE, "-m", "mlops_assets.definitions", "-j", model], **variables)
        finally:
            environment.mlflow_server().stop()
            LocalServing(state=str(home / "serving"), port=environment.serving_port).server.stop()


def measure() -> list[Result]:
    """All figures of orchestration."""
    default, ours = in_turn(3, lambda: stages("default"), lambda: stages("ours"))
    bare, location = in_turn(
        5,
        lambda: command_seconds([sys.executable, "-c", "import dagster"]),
        lambda: command_seconds([sys.executable, "-c", "import mlops_assets.definitions"]),
    )
    iris, empty = in_turn(3, lambda: life_cycle("iris", mlflow_runs=True), lambda: life_cycle("iris"))
    [flights] = in_turn(1, lambda: life_cycle("flight_delay"))
    return [
        result("8 stages that do nothing", ours, "s", "default executor", default, goal=("<=", 5, "s"), better="less"),
        result("loading the code location", location, "s", "import dagster", bare, goal=("<=", 2, "s"), better="less"),
        result("iris, first life cycle", iris, "s", "", None, goal=("<=", 12, "s")),
        result("the same while MLflow makes its database", empty, "s", "", None, goal=("<=", 12, "s")),
        result("flight_delay, first life cycle, MLflow starting", flights, "s", "", None, goal=("<=", 60, "s")),
    ]
