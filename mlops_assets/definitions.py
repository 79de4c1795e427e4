"""The code location: loads every model's YAML and gives its assets the outside world."""

import warnings
from collections.abc import Collection
from pathlib import Path

import dagster as dg

from mlops_assets.assets.handles import HandleIOManager
from mlops_assets.components.drift_alerts import tell_of_drift
from mlops_assets.components.load_models import load_models
from mlops_assets.components.notifications import People
from mlops_assets.components.retention import lake_retention, weekly_retention
from mlops_assets.components.retirement import retire_model
from mlops_assets.components.retrain_sensor import retrain_sensors
from mlops_assets.components.run_failures import tell_of_failed_runs
from resources.environment import Environment
from resources.features.online_store import OnlineStore
from resources.kubernetes.training_jobs import TrainingJobs
from resources.serving.choose_target import serving_target
from resources.tracking.mlflow_tracking import Tracking


def _models(wanted: Collection[str]) -> dg.Definitions:
    tree = dg.ComponentTree.for_project(path_within_project=Path(__file__).parent)
    with warnings.catch_warnings(action="ignore", category=dg.BetaWarning):
        models, specs = load_models(tree, wanted)
    sensors = retrain_sensors(specs, models)
    return dg.Definitions.merge(models, dg.Definitions(component_tree=tree, sensors=sensors))


def _resources(environment: Environment) -> dict[str, object]:
    lake = environment.lake()
    return {
        "lake": lake,
        "io_manager": HandleIOManager(lake=lake),
        "tracking": Tracking(uri=environment.mlflow_uri, ui_url=environment.mlflow_ui_url, lake=lake),
        "serving": serving_target(environment, lake),
        "online_store": OnlineStore.in_environment(environment),
        "training_jobs": TrainingJobs(available=environment.production, queue=environment.queue),
    }


def _platform(environment: Environment) -> dg.Definitions:
    """What the models run on, and what keeps it clean."""
    people = People(environment.alert_webhook, environment.alert_mail)
    alerts = [tell(people, environment.namespace) for tell in (tell_of_failed_runs, tell_of_drift)] if people else []
    upkeep = dg.Definitions(jobs=[lake_retention, retire_model], schedules=[weekly_retention], sensors=alerts)
    return dg.Definitions.merge(upkeep, _outside_world(environment))


def _outside_world(environment: Environment) -> dg.Definitions:
    if not environment.production:
        # One process: a step costs 0.1 s here, and 3.6 s with a process each
        return dg.Definitions(resources=_resources(environment), executor=dg.in_process_executor)
    from resources.kubernetes.janitor import delete_pods_of_dead_runs
    from resources.kubernetes.pod_executor import pod_executor

    return dg.Definitions(resources=_resources(environment), executor=pod_executor, sensors=[delete_pods_of_dead_runs])


_environment = Environment.read()
defs = dg.Definitions.merge(_models(_environment.models), _platform(_environment))
