"""The sensor `retrain`: asks for a run of each model that is to be trained again, and says of the others why not.

One sensor looks at all models. A tick of Dagster's daemon costs it some tens of milliseconds, whatever it does, and one
request to MLflow tells the champions of all: a sensor for each model would take seconds of each minute for 100 models.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from mlops_assets.components.retrain_watch import Looked, RetrainWatch
from mlops_assets.ml.errors import MlopsError
from mlops_assets.spec.model_spec import ModelSpec
from resources.lake.lake import Lake
from resources.tracking.mlflow_tracking import Tracking

SENSOR, MONITORING = "retrain", "monitoring"
EVERY_S, MONITORING_EVERY_S = 60, 300
WITHIN_S = 12.0  # proxies before code servers end a tick after 15 s


def retrain_sensors(specs: Sequence[ModelSpec], models: dg.Definitions) -> list[dg.SensorDefinition]:
    """The sensor for the models that have `retrain`, and the one that has their drift reports made; none without."""
    retrains = [spec for spec in specs if spec.retrain is not None]
    names = {spec.model for spec in retrains}
    jobs = [job for job in models.jobs or () if job.name in names]
    watched = [spec.model for spec in retrains if spec.retrain is not None and spec.retrain.reads_reports]
    made = [retrain_sensor(retrains, jobs)] if retrains else []
    return made + ([monitoring_sensor(watched)] if watched else [])


def monitoring_sensor(models: Sequence[str]) -> dg.SensorDefinition:
    """Makes the log and the drift report of each day, and nothing else; it is on, for what retrains rests on them.

    Dagster's own sensor for automation conditions leaves them to this one. It is off until somebody turns it on, since
    it also materializes whatever a change of code has made out of date, and asks no policy.
    """
    return dg.AutomationConditionSensorDefinition(
        MONITORING,
        target=dg.AssetSelection.groups(*(f"{model}_monitoring" for model in models)),
        description="Makes the logs and drift reports of each day for the models that retrain on them",
        minimum_interval_seconds=MONITORING_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )


def retrain_sensor(specs: Sequence[ModelSpec], jobs: Sequence[Any], within_s: float = WITHIN_S) -> dg.SensorDefinition:
    """The sensor for models that have `retrain`; `jobs` are those of their whole life cycles."""
    watch = RetrainWatch(specs)

    @dg.sensor(
        name=SENSOR,
        jobs=jobs,
        description="Trains models again, as `retrain` in their YAML says; a tick says of each why, or why not",
        minimum_interval_seconds=EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def retrain(context: dg.SensorEvaluationContext, lake: Lake, tracking: Tracking) -> dg.SensorResult:
        pool, over = ThreadPoolExecutor(1), threading.Event()

        def look() -> Looked:
            return watch.look(context.instance, lake, tracking, context.cursor, datetime.now(UTC), over.is_set)

        try:
            looked = pool.submit(look).result(within_s)
        except TimeoutError:
            over.set()
            reason = f"lake, MLflow and Dagster's runs were not read within {within_s:g} s; the next tick looks again"
            return dg.SensorResult(skip_reason=reason, cursor=context.cursor)
        except MlopsError as error:
            return dg.SensorResult(skip_reason=str(error), cursor=context.cursor)
        finally:
            pool.shutdown(wait=False)
        lines = [f"{model}: {reason}" for model, reason in sorted(looked.said.items())]
        for line in lines:
            context.log.info(line)
        if looked.requests:
            return dg.SensorResult(run_requests=looked.requests, cursor=looked.cursor)
        return dg.SensorResult(skip_reason="\n".join(lines), cursor=looked.cursor)

    return retrain
