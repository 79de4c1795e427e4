"""registered_model: what the tags of a version say."""

from __future__ import annotations

from datetime import UTC, datetime

from mlops_assets.assets.code_version import code_version
from mlops_assets.assets.handles import (
    Comparison,
    Evaluation,
    Features,
    Lineage,
    RawData,
    TrainedModel,
)
from mlops_assets.assets.registered_model import version_tags
from mlops_assets.ml.inference.artifact import GoldenRows, ModelSignature
from resources.environment import git_commit
from tests.support import prepared, spec

SIGNATURE = ModelSignature(
    model="weather",
    task="binary_classification",
    inputs=(),
    classes=(True, False),
    sha256="s",
    golden=GoldenRows(rows=(), outputs={}),
)


def test_a_version_leads_back_to_every_stage_and_the_code_and_says_how_it_was_judged() -> None:
    rows = prepared(lineage=Lineage(until=datetime(2025, 3, 1, tzinfo=UTC)))
    found = version_tags(
        spec(),
        RawData(version="r", uri="w/*.csv", objects=(), source_version="s1"),
        Features(prefix="w/features", version="f", prepared=rows),
        TrainedModel(prefix="w/trained_model", version="t", sha256="s"),
        Evaluation(
            lineage=Lineage(overridden={"evaluation.gate": "a holiday"}),
            prefix="w/evaluation",
            version="e",
            sha256="s",
            prepared=rows,
            metrics={"accuracy": 0.875},
            comparison=Comparison(champion=None, wins=True, reason=""),
        ),
        SIGNATURE,
    )
    assert found == {
        "sha256": "s",
        "snapshot": "w/trained_model/t",
        "raw_data_version": "r",
        "prepared_data_version": "v1",
        "features_version": "f",
        "evaluation_version": "e",
        "source": "w/*.csv",
        "source_version": "s1",
        "code_version": code_version(spec()),
        "git_commit": git_commit(),
        "test_accuracy": "0.875000",
        "split_id": "i",
        "data_until": "2025-03-01T00:00:00+00:00",
        "target": "rain",
        "positive_class": "False",
        "overridden.evaluation.gate": "a holiday",
    }
