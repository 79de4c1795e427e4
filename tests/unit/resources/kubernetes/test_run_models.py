"""Which models the pods of a run load."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from resources.kubernetes.labels import MODEL
from resources.kubernetes.run_models import models_of_run, pod_environment

IRIS, FLIGHTS = dg.AssetKey(["iris", "features"]), dg.AssetKey(["flight_delay", "features"])


def run(**fields: Any) -> dg.DagsterRun:
    return dg.DagsterRun(job_name="__ASSET_JOB", **fields)


@pytest.mark.parametrize(
    ("fields", "models"),
    [
        ({"asset_selection": {IRIS}}, {"iris"}),
        ({"asset_selection": {IRIS, FLIGHTS}}, {"iris", "flight_delay"}),
        ({"asset_check_selection": {dg.AssetCheckKey(IRIS, "no_leakage")}, "asset_selection": set[Any]()}, {"iris"}),
        (
            {"asset_check_selection": {dg.AssetCheckKey(FLIGHTS, "gate")}, "asset_selection": {IRIS}},
            {"iris", "flight_delay"},
        ),
        ({"tags": {MODEL: "iris"}}, {"iris"}),
        ({"asset_selection": {FLIGHTS}, "tags": {MODEL: "iris"}}, {"flight_delay"}),
        ({}, set[str]()),
        ({"asset_selection": {IRIS, dg.AssetKey("extra")}}, set[str]()),
    ],
    ids=["an asset", "two models", "a check", "both", "a model's job", "a part of a job", "nothing", "another asset"],
)
def test_the_models_are_those_of_the_selection_or_of_the_job(fields: dict[str, Any], models: set[str]) -> None:
    assert models_of_run(run(**fields)) == models


def test_a_pod_is_told_the_models_by_name_and_nothing_where_it_loads_all() -> None:
    [variable] = pod_environment(run(asset_selection={IRIS, FLIGHTS}))["container_config"]["env"]
    assert variable == {"name": "MLOPS_MODELS", "value": "flight_delay,iris"}
    assert pod_environment(run()) == {}
