"""Models that no YAML defines any more, on the whole platform: they are told, and one is taken out of service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from mlops_assets.components import retirement
from mlops_assets.components.retirement import (
    JOB,
    model_states,
    retire,
    retire_model,
)
from mlops_assets.ml.errors import DeploymentError, SpecError
from resources.features.online_store import OnlineStore
from resources.tracking.mlflow_tracking import Tracking
from tests.stored_views import model
from tests.support import Platform, failure, messages, post, weather

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def trained(platform: Platform) -> Platform:
    """A model that is served."""
    platform.put(weather(200))
    result = platform.run()
    assert result.success, messages(result)
    return platform


def retired(platform: Platform, defined: dict[str, str] | None = None, **arguments: Any) -> list[str]:
    arguments = {"reason": "it was renamed", **arguments}
    by = arguments.pop("reason"), "user ann"
    outside = platform.serving, platform.tracking, platform.lake, platform.online_store
    return retire(platform.model, *by, *outside, defined=defined or {}, **arguments)


def status(platform: Platform) -> int:
    rows = [{"place": "Bern", "pressure": 990, "humidity": 95}]
    url = f"{platform.serving.server.url}/v1/models/{platform.model}:predict"
    return post(url, {"instances": rows})[0]


def moves(platform: Platform) -> list[tuple[str, int | None, int | None]]:
    entries = platform.lake.entries(f"{platform.model}/ledger")
    return [(entry["alias"], entry["version"], entry["previous_version"]) for entry in entries]


def test_a_retired_model_is_neither_served_nor_champion_and_its_versions_stay(trained: Platform) -> None:
    model = trained.model
    [state] = [one for one in model_states(trained.serving, trained.tracking, trained.lake, {}) if one.name == model]
    assert (state.state, state.served, state.versions) == ("orphaned", "1", 1)
    assert state.aliases == {"champion": 1, "challenger": 1}
    assert status(trained) == 200
    assert retired(trained) == [
        f"{model}: version 1 is not served any more",
        f"{model}: version 1 is champion no more",
        f"{model}: version 1 is challenger no more",
    ]
    assert status(trained) == 404
    assert trained.champion() is None
    [state] = [
        one for one in model_states(trained.serving, trained.tracking, trained.lake, {model: "f"}) if one.name == model
    ]
    assert (state.state, state.served, state.versions, state.aliases) == ("defined", None, 1, {})
    assert moves(trained)[-2:] == [("champion", None, 1), ("challenger", None, 1)]
    last = trained.lake.entries(f"{model}/ledger")[-1]
    assert (last["reason"], last["actor"]) == ("it was renamed", "user ann")
    assert retired(trained) == [f"{model}: it was not served"]
    assert len(moves(trained)) == 4

    again = trained.run()  # its YAML is back
    assert again.success, messages(again)
    assert trained.served() == "1"
    assert moves(trained)[-2:] == [("challenger", 1, None), ("champion", 1, None)]


def test_a_model_that_a_yaml_defines_stays_unless_one_insists(trained: Platform) -> None:
    defined = {trained.model: "defs/weather/defs.yaml"}
    with pytest.raises(SpecError, match=r"is defined in defs/weather/defs.yaml, and its next run would deploy it"):
        retired(trained, defined)
    with pytest.raises(SpecError, match="A retirement needs a reason"):
        retired(trained, defined, reason=" ", even_if_defined=True)
    assert status(trained) == 200
    retired(trained, defined, even_if_defined=True)
    assert status(trained) == 404


def test_without_a_server_that_runs_the_declaration_alone_is_changed(trained: Platform) -> None:
    trained.serving.server.stop()
    retired(trained)
    assert trained.serving.server.pid() is None
    assert trained.serving.served() == []
    trained.serving.server.ensure_running()
    assert status(trained) == 404


def test_what_was_killed_half_way_is_completed(trained: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Tracking, "write_removal", killed)
    with pytest.raises(KeyboardInterrupt):
        retired(trained)
    monkeypatch.undo()
    assert retired(trained)[0].endswith("it was not served")
    assert moves(trained)[-2:] == [("champion", None, 1), ("challenger", None, 1)]
    assert trained.champion() is None


def test_the_job_does_the_same_and_refuses_what_does_not_exist(
    trained: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    definitions = dg.Definitions.merge(trained.definitions(trained.spec()), dg.Definitions(jobs=[retire_model]))
    job = definitions.resolve_job_def(JOB)

    def run(model: str) -> dg.ExecuteInProcessResult:
        config = {"ops": {"take_out_of_service": {"config": {"model": model, "reason": "renamed"}}}}
        return job.execute_in_process(instance=trained.instance, raise_on_error=False, run_config=config)

    assert f"(did you mean {trained.model}?)" in failure(run(f"{trained.model[:-1]}_"))
    monkeypatch.setattr(retirement, "defined_models", lambda: {trained.model: "x.yaml"})
    assert "is defined in x.yaml" in failure(run(trained.model))
    monkeypatch.undo()
    assert run(trained.model).success
    assert trained.lake.entries(f"{trained.model}/ledger")[-1]["actor"].startswith("run ")
    assert status(trained) == 404


@pytest.mark.long
def test_a_model_is_retired_in_its_space_alone(trained: Platform, tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    ann = Platform(tmp_path / "ann", trained.mlflow_uri, trained.serving_port, space="ann", model=trained.model)
    ann.serving = trained.serving  # both on one machine
    ann.put(weather(200))
    result = ann.run()
    assert result.success, messages(result)
    assert sorted(trained.serving.served()) == [f"ann--{ann.model}", ann.model]
    [state] = [one for one in model_states(ann.serving, ann.tracking, ann.lake, {}) if one.name == ann.model]
    assert (state.served, state.versions) == ("1", 1)
    assert retired(ann)[0] == f"{ann.model}: version 1 is not served any more"
    assert (ann.champion(), trained.champion(), trained.served()) == (None, 1, "1")
    with pytest.raises(SpecError, match=f"There is no model {ann.model}x.* in the space ann"):
        retire(f"{ann.model}x", "why", "me", ann.serving, ann.tracking, ann.lake, ann.online_store, defined={})


def test_the_feature_views_of_a_retired_model_go_and_those_of_others_stay(stored_platform: Platform) -> None:
    platform = stored_platform
    result = platform.run(model(platform))
    assert result.success, messages(result)
    files = {"wind": platform.home / "wind.parquet"}
    other = platform.online_store.of("other")
    other.register(model(platform).views, files)
    assert [*platform.online_store.of(platform.model).views()] == ["wind"]
    assert retired(platform)[-1] == f"{platform.model}: the feature view wind is in the online store no more"
    assert not platform.online_store.has(platform.model)
    assert [*platform.online_store.of("other").views()] == ["wind"]
    assert retired(platform) == [f"{platform.model}: it was not served"]
    again = platform.run(model(platform))  # its YAML is back
    assert again.success, messages(again)
    assert [*platform.online_store.of(platform.model).views()] == ["wind"]


def test_an_online_store_that_is_away_leaves_the_rest_retired_and_is_told(
    trained: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = OnlineStore(None, "postgresql://nobody:nothing@127.0.0.1:1/features")
    monkeypatch.setattr(trained, "online_store", away)
    with pytest.raises(DeploymentError, match="cannot be taken out of the online store .*retire the model again"):
        retired(trained)
    monkeypatch.undo()
    assert (status(trained), trained.champion()) == (404, None)
    assert retired(trained) == [f"{trained.model}: it was not served"]
