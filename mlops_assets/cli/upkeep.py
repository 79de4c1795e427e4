"""What keeps a platform clean: the lake's retention, as a command."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlops_assets.ml.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def retention(
    *, dry_run: bool, older_than_days: float, keep_versions: int | None, variables: Mapping[str, str] = os.environ
) -> Iterator[str]:
    """What the job `lake_retention` tells, a line for each thing.

    Raises:
        SpecError: nobody knows which runs are in progress.
        TrackingError: MLflow cannot be asked; nothing was deleted.
    """
    import dagster as dg

    from mlops_assets.components.retention import RetentionConfig, retain
    from resources.environment import Environment
    from resources.tracking.mlflow_tracking import Tracking

    if not variables.get("DAGSTER_HOME"):
        what = "DAGSTER_HOME is not set, so nobody knows which runs are in progress"
        raise SpecError(what, remedy="export DAGSTER_HOME=$PWD/.mlops/dagster, the folder that make dev uses")
    environment = Environment.read(variables)
    lake = environment.lake()
    config = RetentionConfig(dry_run=dry_run, older_than_days=older_than_days, keep_versions=keep_versions)
    with dg.DagsterInstance.from_config(variables["DAGSTER_HOME"]) as instance:
        yield from retain(instance, lake, Tracking(uri=environment.mlflow_uri, lake=lake), config).lines()
