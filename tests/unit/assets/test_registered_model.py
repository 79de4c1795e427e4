"""registered_model: what the tags of a version say."""

from __future__ import annotations

from datetime import UTC, datetime

from mlops_assets.assets.handles import (
    Comparison,
    Evaluation,
    Features,
    Lineage,
    PreparedData,
    RawData,
    TrainedModel,
)
from mlops_assets.assets.registered_model import version_tags
from mlops_assets.ml.inference.artifact import GoldenRows, ModelSignature
from resources.environment import git_commit
from tests.support import spec

SIGNATURE = ModelSignature(
    model="weather",
    task="binary_classification",
    inputs=(),
    classes=(True, False),
    sha256="s",
    golden=GoldenRows(rows=(), outputs={}),
)


def test_a_version_leads_back_to_every_stage_and_the_code_and_says_how_it_was_judged() -> None:
    prepared = PreparedData(
        lineage=Lineage(until=datetime(2025, 3, 1, tzinfo=UTC)),
        prefix="w/prepared_data",
        version="p",
        train_rows=8,
        validation_rows=1,
        test_rows=2,
        classes=(True, False),
        target="rain",
        split_id="i",
    )
    found = version_tags(
        spec(),
        RawData(version="r", uri="w/*.csv", objects=()),
        Features(prefix="w/features", version="f", prepared=prepared),
        TrainedModel(prefix="w/trained_model", version="t", sha256="s"),
        Evaluation(
            lineage=Lineage(overridden={"evaluation.gate": "a holiday"}),
            prefix="w/evaluation",
            version="e",
            sha256="s",
            prepared=prepared,
            metrics={"accuracy": 0.875},
            comparison=Comparison(champion=None, wins=True, reason=""),
        ),
        SIGNATURE,
    )
    assert found == {
        "sha256": "s",
        "snapshot": "w/trained_model/t",
        "raw_data_version": "r",
        "prepared_data_version": "p",
        "features_version": "f",
        "evaluation_version": "e",
        "source": "w/*.csv",
        "git_commit": git_commit(),
        "test_accuracy": "0.875000",
        "split_id": "i",
        "data_until": "2025-03-01T00:00:00+00:00",
        "target": "rain",
        "positive_class": "False",
        "overridden.evaluation.gate": "a holiday",
    }
