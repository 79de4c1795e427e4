"""What `dg scaffold defs mlops_assets.ModelPipeline NAME` writes: a commented YAML that loads as it is."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import dagster as dg

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "model.schema.json"
TEMPLATE = """\
type: mlops_assets.ModelPipeline
attributes:
  model: {model}
  description: What does {model} predict, and for whom?
  task: multiclass_classification # or binary_classification, regression

  # Objects to read: relative to the lake, or s3://bucket/prefix/*.parquet; parquet, csv or csv.gz.
  source:
    uri: iris/*.csv
    example: mlops_assets.datasets.iris # written there when the uri holds nothing; remove it for your own data
    # event_time: created_at          # a column of type timestamp
    # partition_by: month             # or day: training windows and backfills by event_time
    # start: "2025-01"                # the first partition; makes a job that can be backfilled
    # window: 12                      # train on the last 12 partitions

  # A column of the source, or a SQL expression over its columns, such as from: "arr_delay > 15".
  target: {{column: species}}

  # The data contract. A row that breaks it stops the pipeline before anything is trained.
  columns:
    sepal_length: {{type: number, min: 0, max: 10}}
    sepal_width: {{type: number, min: 0, max: 10}}
    petal_length: {{type: number, min: 0, max: 10}}
    petal_width: {{type: number, min: 0, max: 10}}
    species: {{type: category}}

  prepare:
    drop_nulls: true
    drop_duplicates: false
    max_dropped: 0.2 # a larger share of dropped rows stops the pipeline
    split: {{by: random, test: 0.2, validation: 0.1, seed: 42}} # or by: time, or by: group with column

  features:
    use: [sepal_length, sepal_width, petal_length, petal_width]

  # Any torch.nn.Module or scikit-learn estimator, by import path.
  train:
    network: mlops_assets.ml.networks.MLP
    params: {{hidden: [16]}}
    epochs: 200
    batch_size: 16
    learning_rate: 0.01
    early_stopping: {{patience: 20}}
    checkpoint_every: 60s

  # A model below the gate is neither registered nor deployed.
  gate: {{metric: accuracy, at_least: 0.8}}

  # retrain: {{on_new_data: true, max_age: 30d}} # and on drift; docs/operations.md has all causes, and schedules
"""


class ModelPipelineScaffolder(dg.Scaffolder):
    """Writes defs.yaml for a new model named like its folder."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        model = re.sub(r"[^a-z0-9_]", "_", request.target_path.name.lower())
        if not model[:1].isalpha():
            model = f"model_{model}"
        request.target_path.mkdir(parents=True, exist_ok=True)
        head = modeline(request.target_path)
        text = TEMPLATE.format(model=model)
        (request.target_path / "defs.yaml").write_text(f"{head}\n{text}" if head else text)


def modeline(folder: Path) -> str:
    """The comment by which editors find the schema of a defs.yaml in `folder`; nothing where there is no schema."""
    if not SCHEMA.exists():
        return ""
    return f"# yaml-language-server: $schema={os.path.relpath(SCHEMA, folder.resolve())}"
