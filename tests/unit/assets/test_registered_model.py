"""registered_model: the lineage of a version."""

from __future__ import annotations

from mlops_assets.assets.handles import Evaluation, Features, PreparedData, RawData, TrainedModel
from mlops_assets.assets.registered_model import lineage
from resources.environment import git_commit


def test_a_version_leads_back_to_every_stage_and_the_code() -> None:
    prepared = PreparedData(
        prefix="w/prepared_data", version="p", train_rows=8, validation_rows=1, test_rows=2, classes=None
    )
    found = lineage(
        RawData(version="r", uri="w/*.csv", objects=()),
        Features(prefix="w/features", version="f", prepared=prepared),
        TrainedModel(prefix="w/trained_model", version="t", sha256="s"),
        Evaluation(
            prefix="w/evaluation",
            version="e",
            sha256="s",
            metrics={},
            champion_metrics=None,
            beats_champion=True,
            decision="",
        ),
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
    }
