"""What a stage writes into its MLflow run."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from resources.tracking.mlflow_errors import translate_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlflow import MlflowClient


class TrackedRun:
    """The MLflow run of a model in one Dagster run. All calls name the run; there is no global active run."""

    def __init__(
        self,
        client: MlflowClient,
        run_id: str,
        address: str,
        experiment: str,
        *,
        page: str | None = None,
        shows_pictures: bool = True,
    ) -> None:
        self.client, self.run_id, self.address = client, run_id, address
        self.page, self.shows_pictures = page or address, shows_pictures
        self.url = f"{self.page}/#/experiments/{experiment}/runs/{run_id}"

    def picture(self, png: Path, under: str) -> str:
        """The address of a picture that was logged with its folder under a name, for a page of another origin.

        Dagster shows Markdown at once when it is short, which an address is. Where MLflow asks for a login, a browser
        does not get a picture by its address, so that it is in the page itself.
        """
        if self.shows_pictures:
            return f"{self.page}/get-artifact?path={under}/{png.name}&run_uuid={self.run_id}"
        return f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode()}"

    @translate_errors
    def params(self, values: Mapping[str, object]) -> None:
        """Log parameters; those that are there already stay."""
        from mlflow.entities import Param

        known = self.client.get_run(self.run_id).data.params
        fresh = [Param(key, str(value)[:6000]) for key, value in values.items() if key not in known]
        self.client.log_batch(self.run_id, params=fresh)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log one value for each metric."""
        self.series([values], first_step=step)

    @translate_errors
    def series(self, rows: Sequence[Mapping[str, float]], first_step: int = 0) -> None:
        """Log metrics for consecutive steps, in batches as large as the server takes."""
        import math
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(key, value, now, first_step + step)
            for step, row in enumerate(rows)
            for key, value in row.items()
            if math.isfinite(value)
        ]
        for start in range(0, len(metrics), 1000):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + 1000])

    @translate_errors
    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        self.client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in values.items()])

    @translate_errors
    def text(self, content: str, name: str) -> None:
        """Log a text file."""
        self.client.log_text(self.run_id, content, name)

    @translate_errors
    def file(self, file: Path, under: str) -> None:
        """Log a file under a name."""
        self.client.log_artifact(self.run_id, str(file), under)

    @translate_errors
    def files(self, folder: Path, name: str) -> None:
        """Log the files of a folder under `name`."""
        self.client.log_artifacts(self.run_id, str(folder), name)
