"""The exporter over real parts: a lake, an MLflow server and a Dagster instance, and as the process that is scraped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from mlops_assets.assets.drift_report import drift_report_asset
from mlops_assets.exporter.server import Models, sources
from resources.local.background_server import BackgroundServer
from resources.tracking.model_registry import ModelRegistry
from tests.support import TORCH, attributes, free_port, post, wait_until, weather

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support import Platform

TODAY = datetime.now(UTC).date()


def figures(platform: Platform, root: Path) -> dict[str, float]:
    """All figures of the platform's model, by metric and labels."""
    registry = ModelRegistry(uri=platform.mlflow_uri, lake=platform.lake)
    found: dict[str, float] = {}
    for source in sources(Models(root), platform.lake, registry, lambda: platform.instance):
        source.refresh()
        given = {"/".join((figure.name, *figure.labels)): figure.value for figure in source.figures(time.time())}
        assert given[f"model_exporter_up/{source.name}"] == 1, source.name
        found |= given
    return {name.replace(f"/{platform.model}", ""): value for name, value in found.items()}


def ask(platform: Platform, rows: int) -> None:
    frame = weather(rows, seed=7).drop(columns="rain").assign(pressure=lambda table: table["pressure"] + 30)
    frame["pressure"] = frame["pressure"].clip(upper=1099)
    instances = frame.astype(object).where(frame.notna(), None).to_dict("records")
    url = f"{platform.serving.server.url}/v1/models/{platform.model}"
    assert post(f"{url}:predict", {"id": "a", "instances": instances})[0] == 200
    labels = [{"id": "a", "row": 0, "label": True}]
    assert post(f"{url}/feedback", {"labels": labels})[0] == 200


def report(platform: Platform, day: date) -> None:
    """Make the drift report of a day, once the server has stored what it was asked."""
    wait_until(lambda: platform.lake.store.sizes(f"inference/{platform.model}/**/*.parquet"), 60)
    wait_until(lambda: platform.lake.store.sizes(f"labels/{platform.model}/**/*.parquet"), 60)
    asset = drift_report_asset(platform.spec())
    made = dg.materialize(
        [asset],
        partition_key=str(day),
        instance=platform.instance,
        resources={"lake": platform.lake, "tracking": platform.tracking},
        selection=[asset],
    )
    assert made.success


def test_a_life_of_a_model_is_told_in_figures(platform: Platform, tmp_path: Path) -> None:
    root, began = tmp_path / "defs", time.time()
    root.mkdir()
    document = {"type": "mlops_assets.ModelPipeline", "attributes": attributes(model=platform.model, train=TORCH)}
    (root / "defs.yaml").write_text(yaml.safe_dump(document))
    assert "model_champion_version" not in figures(platform, root), "nothing is trained yet"

    platform.put(weather(4_000))
    assert platform.run(platform.spec(train=TORCH)).success
    found = figures(platform, root)
    assert found["model_champion_version"] == 1
    assert 0.6 <= found["model_gate_metric/accuracy"] <= 1
    assert found["model_gate_threshold/accuracy"] == 0.6
    assert began - 1 <= found["model_last_trained_timestamp_seconds"] <= time.time()
    assert began - 1 <= found["model_champion_since_timestamp_seconds"] <= time.time()
    assert found["model_training_rows_per_second"] > 100
    assert (found["model_champion_moves_total"], found["model_rollout_steps_total/promoted"]) == (1, 1)
    checks = {
        name.removeprefix("model_check_passed/"): value for name, value in found.items() if "check_passed" in name
    }
    assert checks == {"evaluation/gate": 1, "deployment/beats_champion": 1, "deployment/no_skew": 1}
    assert "model_drift_score" not in found

    ask(platform, 600)
    report(platform, TODAY)
    found = figures(platform, root)
    assert found["model_drift_score"] > 0.3
    assert (found["model_drift_rows"], found["model_column_drifted/pressure"]) == (600, 1)
    assert found["model_unlabelled_share"] == pytest.approx(599 / 600)
    assert 0 <= found["model_label_delay_seconds"] < timedelta(minutes=1).total_seconds()
    assert found["model_live_metric/accuracy"] in (0, 1)


def test_the_process_answers_scrapes_whatever_is_away_and_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    port, home = free_port(), tmp_path / "dagster"
    home.mkdir()
    variables = {"MLOPS_HOME": str(tmp_path), "EXPORTER_PORT": str(port), "MLFLOW_PORT": str(free_port())}
    variables |= {"DAGSTER_HOME": str(home), "MLOPS_MODELS": "", "MLOPS_SPACE": ""}
    command = [sys.executable, "-m", "mlops_assets.cli", "exporter"]
    process = subprocess.Popen(command, env=os.environ | variables, stderr=subprocess.DEVNULL)
    try:
        server = BackgroundServer(tmp_path, "exporter", port, "/metrics", command, {})
        wait_until(server.answers, 60)

        def scrape() -> dict[str, float]:
            with urllib.request.urlopen(server.health, timeout=10) as answer:
                families = text_string_to_metric_families(answer.read().decode())
            samples = [sample for family in families for sample in family.samples]
            return {"/".join((one.name, *one.labels.values())): one.value for one in samples}

        ours = ("models", "ledgers", "drift", "runs")
        wait_until(lambda: all(scrape()[f"model_exporter_up/{name}"] for name in ours), 60)
        found = scrape()
        assert found["model_exporter_up/registry"] == 0, "nobody has started MLflow, and who only looks does not"
        assert found["model_info/flight_delay/team:operations/binary_classification"] == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
