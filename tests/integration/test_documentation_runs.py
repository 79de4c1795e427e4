"""What the README, the tutorial and the page on operations tell to do is done, in order, and gives what they show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from tests.documentation import IRIS, PROJECT, Reader, blocks, difference, model_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = ["README.md", "docs/tutorial.md", "docs/operations.md", "docs/feature-store.md"]
# Why a block may be left out
REASONS = {
    "installs 7 GB",
    "needs a cluster",
    "needs an AWS account",
    "the id is that of your answer",
    "models and days are yours",
}
SET_UP = """
source .venv/bin/activate
export DAGSTER_HOME=$PWD/.mlops/dagster
mkdir -p .mlops/dagster
"""
# What has happened before somebody reads a page: of operations, two versions of flight_delay on flights of three months
BEFORE = {
    "docs/feature-store.md": SET_UP,
    "docs/operations.md": SET_UP
    + """
mkdir -p .mlops/lake/flights
python -c 'from pathlib import Path; from mlops_assets import datasets; datasets.flights(Path(".mlops/lake/flights"))'
rm .mlops/lake/flights/*-0[4-9].parquet .mlops/lake/flights/*-1[0-2].parquet
sed -i 's/epochs: 20/epochs: 2/' mlops_assets/defs/flight_delay/defs.yaml
dagster job execute -m mlops_assets.definitions -j flight_delay
sed -i 's/epochs: 2/epochs: 3/' mlops_assets/defs/flight_delay/defs.yaml
echo '{ops: {flight_delay__deployment: {config: {override: {beats_champion: a second version}}}}}' > second.yaml
dagster job execute -m mlops_assets.definitions -j flight_delay --config second.yaml
""",
}


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """A fresh clone, with its own state and ports."""
    made = Reader(tmp_path)
    yield made
    made.shell(".venv/bin/python -m mlops_assets.cli servers stop")


# Together they take four minutes on two cores
@pytest.mark.pages
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(page: str, reader: Reader) -> None:
    if page in BEFORE:
        reader.shell(BEFORE[page])
    problems = reader.follow((PROJECT / page).read_text())
    assert not problems, "\n\n".join(f"{page}, {problem}" for problem in problems)


@pytest.mark.parametrize("page", PAGES)
def test_the_yaml_of_a_page_keeps_the_schema(page: str) -> None:
    model = yaml.safe_load(IRIS.read_text())
    for block in blocks((PROJECT / page).read_text()):
        if block.language == "yaml":
            model = model_of(block, model)


def test_what_cannot_run_here_says_why() -> None:
    reasons = [
        block.notes["not run"]
        for page in PAGES
        for block in blocks((PROJECT / page).read_text())
        if "not run" in block.notes
    ]
    assert set(reasons) == REASONS


SHOWS = """
<!-- file: a.txt -->
```
one
```
<!-- run: echo ran -->
```sh
echo two
```
<!-- not run: no cluster -->

```sh
kubectl
```
"""


def test_a_block_knows_its_comments() -> None:
    found = [(block.language, block.text, block.notes) for block in blocks(SHOWS)]
    assert found == [
        ("", "one\n", {"file": "a.txt"}),
        ("sh", "echo ran", {}),
        ("sh", "echo two\n", {}),
        ("sh", "kubectl\n", {"not run": "no cluster"}),
    ]


@pytest.mark.parametrize("page", ["<!-- file: a -->\nwords\n```\na\n```", "<!-- not run: why -->\nwords"])
def test_a_comment_without_its_block_is_noticed(page: str) -> None:
    with pytest.raises(ValueError, match="has no block"):
        blocks(page)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("auc  0.91", "before\nauc 0.92\nafter"),
        ("first\n...\nlast", "first\nsecond\nlast"),
        ("the run 3d2b... failed", "Error: the run 9f3ac failed"),
    ],
)
def test_output_agrees(shown: str, printed: str) -> None:
    assert difference(shown, printed, is_json=False) == ""


@pytest.mark.parametrize(
    ("shown", "printed"),
    [("auc 0.91", "auc 0.81"), ("first\nlast", "last\nfirst"), ("8 rows", "9 rows"), ("a b", "a b c"), ("a", "")],
)
def test_another_output_is_noticed(shown: str, printed: str) -> None:
    assert difference(shown, printed, is_json=False)


def test_answers_agree_apart_from_their_id() -> None:
    assert difference('{"id": "a", "p": [0.2, "x"]}', '{"id":"b","p":[0.21,"x"]}', is_json=True) == ""
    assert difference('{"id": "a", "p": [0.2, "x"]}', '{"id":"b","p":[0.21,"y"]}', is_json=True)
    assert difference('{"id": "a", "p": [0.2]}', '{"id":"b"}', is_json=True)
