"""deployment: which version is to be served."""

from __future__ import annotations

from mlops_assets.assets.deployment import version_to_serve
from mlops_assets.assets.handles import RegisteredModel
from resources.tracking.mlflow_tracking import RegisteredVersion

CHAMPION = RegisteredVersion(model="weather", version=3, sha256="c" * 64, run_id="r3")
NEW = RegisteredVersion(model="weather", version=4, sha256="d" * 64, run_id="r4")


def registered(promote: bool) -> RegisteredModel:
    return RegisteredModel(**NEW.model_dump(), promote=promote, decision="")


def test_a_better_version_takes_the_champions_place() -> None:
    assert version_to_serve(registered(promote=True), CHAMPION) == NEW


def test_a_worse_version_leaves_the_champion_where_it_is() -> None:
    assert version_to_serve(registered(promote=False), CHAMPION) == CHAMPION


def test_without_a_champion_the_new_version_is_served() -> None:
    assert version_to_serve(registered(promote=False), None) == NEW
