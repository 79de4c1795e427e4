"""Which models the exporter knows. That it answers scrapes is in tests/integration/test_exporter.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from mlops_assets.exporter.server import Models, open_storage
from mlops_assets.ml.errors import SpecError
from tests.support import attributes

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "defs.yaml").write_text(text)


def test_models_are_read_again_when_a_yaml_comes_or_changes(tmp_path: Path) -> None:
    models = Models(tmp_path)
    assert models.now() == ({}, [])
    document = {"type": "mlops_assets.ModelPipeline", "attributes": attributes()}
    write(tmp_path / "weather", yaml.safe_dump(document))
    found, broken = models.now()
    assert (list(found), broken) == (["weather"], [])
    write(tmp_path / "snow", yaml.safe_dump(document | {"attributes": attributes(model="snow", task="guess")}))
    found, broken = models.now()
    assert (list(found), broken) == (["weather"], [str(tmp_path / "snow" / "defs.yaml")])


def test_without_a_home_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with pytest.raises(SpecError, match="DAGSTER_HOME is not set; set it to the folder"):
        open_storage()
