"""Which models a run is about, so that its pods load these alone: among hundreds, loading all takes most of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resources.kubernetes.labels import MODEL

if TYPE_CHECKING:
    import dagster as dg

VARIABLE = "MLOPS_MODELS"


def models_of_run(run: dg.DagsterRun) -> frozenset[str]:
    """The models whose assets or checks a run selects, or whose job it is; empty where that cannot be told.

    The first part of an asset's key is its model. Of other assets it is no model's name, and the code location, which
    then does not find it, loads all.
    """
    keys = {*(run.asset_selection or ()), *(check.asset_key for check in run.asset_check_selection or ())}
    if keys:
        named = all(len(key.path) > 1 for key in keys)
        return frozenset(key.path[0] for key in keys) if named else frozenset()
    model = run.tags.get(MODEL)
    return frozenset([model]) if model else frozenset()


def pod_environment(run: dg.DagsterRun) -> dict[str, Any]:
    """What of `dagster-k8s/config` tells a pod of the run which models to load."""
    models = models_of_run(run)
    if not models:
        return {}
    return {"container_config": {"env": [{"name": VARIABLE, "value": ",".join(sorted(models))}]}}
