"""The pages a user looks at, in a real browser: nothing fails to load, and what should be seen is seen.

With MLOPS_PICTURES=FOLDER the pictures of the README are written there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from resources.environment import Environment
from resources.serving.choose_target import local_serving
from tests.support import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

STAGES = ("raw_data", "prepared_data", "features", "trained_model", "evaluation", "registered_model", "deployment")
pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

PROJECT = Path(__file__).parents[2]
MODEL = os.environ.get("MLOPS_PICTURE_MODEL", "iris")
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A machine on which the model has been materialized."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (.ci/run installs it)")
    home = tmp_path_factory.mktemp("home")
    (home / "dagster").mkdir()
    (home / "dagster/dagster.yaml").write_text("telemetry:\n  enabled: false\nnux:\n  enabled: false\n")
    made = os.environ | {
        "MLOPS_HOME": str(home),
        "DAGSTER_HOME": str(home / "dagster"),
        "SERVING_PORT": str(free_port()),
        "MLFLOW_PORT": str(free_port()),
    }
    command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "mlops_assets.definitions"]
    subprocess.run([*command, "-j", MODEL], cwd=PROJECT, env=made, check=True, capture_output=True)
    yield made
    environment = Environment.read(made)
    environment.mlflow_server().stop()
    local_serving(environment).stop()


@pytest.fixture(scope="module")
def dagster_ui(variables: dict[str, str]) -> Iterator[str]:
    """The Dagster UI on that machine."""
    port = free_port()
    command = [sys.executable, "-m", "dagster_webserver", "-w", str(PROJECT / "workspace.yaml")]
    with subprocess.Popen(
        [*command, "-h", "127.0.0.1", "-p", str(port)],
        cwd=PROJECT,
        env=variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/server_info")
        yield url
        process.terminate()


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """A browser's page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        made = browser.new_page(viewport={"width": 1500, "height": 1000})
        made.set_default_timeout(60_000)
        yield made
        browser.close()


def picture(page: Any, name: str, **arguments: Any) -> None:
    """Keep what is seen, where somebody has asked for it."""
    if folder := os.environ.get("MLOPS_PICTURES"):
        page.screenshot(path=f"{folder}/{name}.png", **arguments)


def test_the_asset_graph(dagster_ui: str, page: Any) -> None:
    page.goto(f"{dagster_ui}/locations/__repository__@mlops_assets.definitions/asset-groups/{MODEL}/lineage")
    for stage in STAGES:
        page.get_by_text(stage, exact=True).first.wait_for()
    page.wait_for_timeout(2_000)
    picture(page, "asset-graph", clip={"x": 240, "y": 400, "width": 1230, "height": 300})
    assert page.get_by_text("Failed", exact=True).count() == 0


def test_the_evaluation_asset_shows_its_plots(dagster_ui: str, page: Any) -> None:
    page.set_viewport_size({"width": 1500, "height": 3400})
    page.goto(f"{dagster_ui}/assets/{MODEL}/evaluation?view=overview")
    page.get_by_text("roc_auc", exact=True).first.wait_for()
    plots = page.locator("img[alt='plot']")
    plots.first.wait_for()
    page.wait_for_timeout(3_000)
    widths = plots.evaluate_all("images => images.map(image => image.naturalWidth)")
    picture(page, "evaluation", clip={"x": 240, "y": 0, "width": 1260, "height": 1900})
    page.set_viewport_size({"width": 1500, "height": 1000})
    assert len(widths) >= 5
    assert all(width == 420 for width in widths)


def test_the_mlflow_run_shows_metrics_and_plots(variables: dict[str, str], page: Any) -> None:
    from mlflow import MlflowClient

    url = Environment.read(variables).mlflow_server().url
    client = MlflowClient(url)
    experiment = client.get_experiment_by_name(MODEL)
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    page.goto(f"{url}/#/experiments/{experiment.experiment_id}/runs/{run.info.run_id}")
    page.get_by_text("test_accuracy").first.wait_for()
    page.wait_for_timeout(1_500)
    picture(page, "mlflow-run")
    page.goto(f"{url}/#/experiments/{experiment.experiment_id}/runs/{run.info.run_id}/artifacts/evaluation/roc.png")
    page.get_by_text("confusion_matrix.png").first.wait_for()
    page.wait_for_timeout(2_000)
    picture(page, "mlflow-plot")
    assert page.get_by_text("model_card.md").count() > 0


def test_the_registry_shows_the_aliases(variables: dict[str, str], page: Any) -> None:
    page.goto(f"{Environment.read(variables).mlflow_server().url}/#/models/{MODEL}")
    page.get_by_text("champion").first.wait_for()
    assert page.get_by_text("challenger").count() > 0
    picture(page, "registry")


def test_the_log_of_a_day_shows_rows_versions_and_labels(variables: dict[str, str], dagster_ui: str, page: Any) -> None:
    server = local_serving(Environment.read(variables)).server
    row = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
    for path, body in (
        (":predict", {"id": "one", "instances": [row] * 4}),
        ("/feedback", {"labels": [{"id": "one", "label": "setosa"}]}),
    ):
        url = f"{server.ensure_running()}/v1/models/iris{path}"
        urllib.request.urlopen(url, json.dumps(body).encode(), timeout=10).close()
    server.stop()  # it stores what it holds
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "mlops_assets.definitions"]
    command += ["--select", "iris/inference_log", "--partition", today]
    subprocess.run(command, cwd=PROJECT, env=variables, check=True, capture_output=True)
    page.set_viewport_size({"width": 1500, "height": 1400})
    page.goto(f"{dagster_ui}/assets/iris/inference_log?view=partitions&partition={today}")
    page.get_by_text("label_share", exact=True).first.wait_for()
    page.wait_for_timeout(1_500)
    picture(page, "inference-log")
    assert page.get_by_text("0.25", exact=True).count()
