"""What keeps a platform clean, as commands: the lake's retention, and models that no YAML defines any more."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlops_assets.ml.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlops_assets.components.retirement import ModelState
    from resources.lake.lake import Lake
    from resources.serving.serving_target import ServingTarget
    from resources.tracking.mlflow_tracking import Tracking


def retention(
    *, dry_run: bool, older_than_days: float, keep_versions: int | None, variables: Mapping[str, str] = os.environ
) -> Iterator[str]:
    """What the job `lake_retention` tells, a line for each thing.

    Raises:
        SpecError: nobody knows which runs are in progress.
        TrackingError: MLflow cannot be asked; nothing was deleted.
    """
    from mlops_assets.components.dagster_storage import dagster_storage
    from mlops_assets.components.retention import RetentionConfig, retain
    from resources.environment import Environment
    from resources.tracking.mlflow_tracking import Tracking

    if not variables.get("DAGSTER_HOME"):
        what = "DAGSTER_HOME is not set, so nobody knows which runs are in progress"
        raise SpecError(what, remedy="export DAGSTER_HOME=$PWD/.mlops/dagster, the folder that make dev uses")
    environment = Environment.read(variables)
    lake = environment.lake()
    config = RetentionConfig(dry_run=dry_run, older_than_days=older_than_days, keep_versions=keep_versions)
    with dagster_storage(variables["DAGSTER_HOME"]) as instance:
        yield from retain(instance, lake, Tracking(uri=environment.mlflow_uri, lake=lake), config).lines()


def models() -> list[ModelState]:
    """What there is of each model: whether a YAML defines it, what is served, and which versions have an alias."""
    from mlops_assets.components.defined_models import defined_models
    from mlops_assets.components.retirement import model_states

    return model_states(*outside_world(), defined_models())


def told(found: Sequence[ModelState]) -> Iterator[str]:
    """A line for each model."""
    width = max((len(model.name) for model in found), default=0)
    for model in found:
        served = f"serves version {model.served}" if model.served else "is not served"
        aliases = "".join(f", {alias} is version {number}" for alias, number in sorted(model.aliases.items()))
        yield f"{model.name:<{width}}  {model.state:<8}  {served}, {model.versions} in MLflow{aliases}"
    if any(model.file is None for model in found):
        yield "No YAML defines what is orphaned; mlops-assets retire takes it out of service."


def retire(name: str, reason: str, *, even_if_defined: bool) -> Iterator[str]:
    """Take a model out of service; what was done, a line each.

    Raises:
        SpecError: there is no such model, or a YAML still defines it.
    """
    from mlops_assets.components import retirement
    from mlops_assets.components.defined_models import defined_models
    from resources.environment import Environment, user_name
    from resources.features.online_store import OnlineStore

    outside = *outside_world(), OnlineStore.in_environment(Environment.read())
    by = f"user {user_name()}"
    yield from retirement.retire(name, reason, by, *outside, defined=defined_models(), even_if_defined=even_if_defined)


def rollback(name: str, version: int, reason: str) -> Iterator[str]:
    """Make a registered version champion again; what was done, a line each.

    Raises:
        MlopsError: it is refused, and nothing was changed.
    """
    from mlops_assets.components.defined_models import defined_spec
    from mlops_assets.components.rollback import roll_back
    from resources.environment import user_name

    yield from roll_back(name, version, reason, f"user {user_name()}", *outside_world(), defined_spec(name))


def outside_world() -> tuple[ServingTarget, Tracking, Lake]:
    """Where models are served, tracked and kept, as the environment says."""
    from resources.environment import Environment
    from resources.serving.choose_target import serving_target
    from resources.tracking.mlflow_tracking import Tracking

    environment = Environment.read()
    lake = environment.lake()
    tracking = Tracking(uri=environment.mlflow_uri, ui_url=environment.mlflow_ui_url, lake=lake)
    return serving_target(environment, lake), tracking, lake
