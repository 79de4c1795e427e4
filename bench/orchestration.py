"""What a stage costs, how fast the code location loads, and how long whole life cycles take."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from bench.measure import PROJECT, Result, command_seconds, in_turn, result, scratch
from resources.environment import Environment
from resources.serving.choose_target import local_serving
from resources.tracking.mlflow_database import create_database

if TYPE_CHECKING:
    from pathlib import Path

MATERIALIZE = [sys.executable, "-m", "dagster", "asset", "materialize"]
EXECUTE = [sys.executable, "-m", "dagster", "job", "execute"]
MANY = 300
LOAD = [sys.executable, "-c", "import mlops_assets.definitions"]
STEP = """
import os
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.execution.api import create_execution_plan
repository = ReconstructableRepository(ModuleCodePointer("mlops_assets.definitions", "defs", os.getcwd()))
create_execution_plan(repository.get_reconstructable_job("flight_delay_0"))
"""
PORTS = {"SERVING_PORT": "18085", "MLFLOW_PORT": "15005"}


def stages(module: str) -> float:
    """Seconds for eight stages that do nothing."""
    with scratch() as home:
        return command_seconds([*MATERIALIZE, "-m", f"bench.stages.{module}", "--select", "*"], DAGSTER_HOME=str(home))


def life_cycle(model: str, *, has_database: bool = True, mlflow_runs: bool = False) -> float:
    """Seconds of a model's first life cycle: nothing cached, no server runs; MLflow's database is made at set-up."""
    with scratch() as home:
        (home / "dagster").mkdir()
        variables = {"MLOPS_HOME": str(home), "DAGSTER_HOME": str(home / "dagster"), **PORTS}
        environment = Environment.read(variables)
        try:
            if has_database:
                create_database(environment.mlflow_database)
            if mlflow_runs:
                environment.mlflow_server().ensure_running()
            return command_seconds([*EXECUTE, "-m", "mlops_assets.definitions", "-j", model], **variables)
        finally:
            environment.mlflow_server().stop()
            local_serving(environment).stop()


def project(folder: Path, models: int) -> Path:
    """This project with so many copies of the shipped models in the place of those."""
    for name in ("mlops_assets", "resources"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(PROJECT / "pyproject.toml", folder / "pyproject.toml")
    defs = folder / "mlops_assets/defs"
    found = sorted(defs.glob("*/defs.yaml"), key=lambda path: path.parent.name != "flight_delay")
    shipped = {path.parent.name: path.read_text() for path in found}
    shutil.rmtree(defs)
    for number in range(models):
        model = [*shipped][number % len(shipped)]
        copy = defs / f"{model}_{number}"
        copy.mkdir(parents=True)
        (copy / "defs.yaml").write_text(shipped[model].replace(f"model: {model}\n", f"model: {copy.name}\n"))
    return folder


def many_models() -> list[Result]:
    """What hundreds of models cost: all of them loaded, and a step's process, from its start to its plan, of one."""
    with scratch() as home:
        many, alone = project(home / "many", MANY), project(home / "alone", 1)
        of_many = {"PYTHONPATH": str(many), "MLOPS_MODELS": "flight_delay_0"}
        for folder in (many, alone):  # byte code
            command_seconds(LOAD, folder, PYTHONPATH=str(folder))
        loading, among, by_itself = in_turn(
            5,
            lambda: command_seconds(LOAD, many, PYTHONPATH=str(many)),
            lambda: command_seconds([sys.executable, "-c", STEP], many, **of_many),
            lambda: command_seconds([sys.executable, "-c", STEP], alone, PYTHONPATH=str(alone)),
        )
    more = among - by_itself
    return [
        result(f"loading {MANY} models", loading, "s", "", None, goal=("<=", 5, "s")),
        result(f"a step of one among {MANY}, more than of one alone", more, "s", "", None, goal=("<=", 0.3, "s")),
    ]


def measure() -> list[Result]:
    """All figures of orchestration."""
    default, ours = in_turn(3, lambda: stages("default"), lambda: stages("ours"))
    bare, location = in_turn(
        5,
        lambda: command_seconds([sys.executable, "-c", "import dagster"]),
        lambda: command_seconds([sys.executable, "-c", "import mlops_assets.definitions"]),
    )
    iris, running, empty = in_turn(
        3,
        lambda: life_cycle("iris"),
        lambda: life_cycle("iris", mlflow_runs=True),
        lambda: life_cycle("iris", has_database=False),
    )
    [flights] = in_turn(1, lambda: life_cycle("flight_delay"))
    return [
        result("8 stages that do nothing", ours, "s", "default executor", default, goal=("<=", 5, "s"), better="less"),
        result("loading the code location", location, "s", "import dagster", bare, goal=("<=", 2, "s"), better="less"),
        result("iris, first life cycle after set-up", iris, "s", "", None, goal=("<=", 12, "s")),
        result("the same where MLflow runs already", running, "s", "", None, goal=("<=", 12, "s")),
        result("the same while MLflow makes its database", empty, "s", "", None, goal=("<=", 12, "s")),
        result("flight_delay, first life cycle, MLflow starting", flights, "s", "", None, goal=("<=", 60, "s")),
        *many_models(),
    ]
