"""Folders of `defs`: nested ones, Python files, and one that cannot be loaded beside others that can."""

from __future__ import annotations

import gc
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox

from mlops_assets.components.load_models import load_models
from mlops_assets.ml.errors import SpecError
from tests.support import attributes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dagster.components.testing import DefsFolderSandbox


@pytest.fixture
def sandbox() -> Iterator[DefsFolderSandbox]:
    """A project without models."""
    with create_defs_folder_sandbox() as made:
        yield made


def write(sandbox: DefsFolderSandbox, folder: str, **changed: object) -> None:
    place = sandbox.defs_folder_path / folder
    place.mkdir(parents=True)
    content = {"type": "mlops_assets.ModelPipeline", "attributes": attributes(**changed)}
    (place / "defs.yaml").write_text(yaml.safe_dump(content))


def models(sandbox: DefsFolderSandbox, *wanted: str) -> dict[str, set[str]]:
    """The assets of each group."""
    with sandbox.build_component_tree() as tree:
        assets: Any = load_models(tree, wanted).definitions.assets
    found = dict[str, set[str]]()
    for asset in assets:
        found.setdefault(asset.key.path[0], set()).add(asset.key.path[-1])
    return found


def test_models_may_lie_in_folders_of_teams_beside_python_files(sandbox: DefsFolderSandbox) -> None:
    write(sandbox, "team/first", model="first")
    write(sandbox, "team/second", model="second")
    (sandbox.defs_folder_path / "extra.py").write_text("import dagster as dg\n\n@dg.asset\ndef extra(): ...\n")
    assert models(sandbox).keys() == {"first", "second", "extra"}


def test_one_that_is_broken_is_an_asset_with_the_reason_and_the_others_are_there(
    sandbox: DefsFolderSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(sandbox, "team/good", model="good")
    write(sandbox, "team/bad", model="bad", task="guessing")
    found = models(sandbox)
    assert "deployment" in found["good"]
    assert found["bad"] == {"broken"}
    monkeypatch.setenv("DAGSTER_IS_DEFS_VALIDATION_CLI", "1")
    with pytest.raises(SpecError, match="task: 'guessing'"):
        models(sandbox)


def test_two_files_with_one_model_name_are_told_with_both(
    sandbox: DefsFolderSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(sandbox, "one", model="twin")
    write(sandbox, "two", model="twin")
    assert models(sandbox)["two"] == {"broken"}
    monkeypatch.setenv("DAGSTER_IS_DEFS_VALIDATION_CLI", "1")
    with pytest.raises(SpecError, match=r"two/defs.yaml: model twin is defined in .*one/defs.yaml as well"):
        models(sandbox)


def test_a_broken_folder_that_is_called_like_a_model_of_another_takes_nothing_from_it(
    sandbox: DefsFolderSandbox,
) -> None:
    write(sandbox, "iris", model="other", task="guessing")
    write(sandbox, "z", model="iris")
    found = models(sandbox)
    assert "deployment" in found["iris"]
    assert found["iris_broken"] == {"broken"}


def test_a_broken_one_fails_with_its_reason_when_it_is_run(sandbox: DefsFolderSandbox) -> None:
    write(sandbox, "bad", model="bad", task="guessing")
    with sandbox.build_component_tree() as tree:
        result = load_models(tree).definitions.resolve_job_def("bad").execute_in_process(raise_on_error=False)
    assert not result.success
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert "task: 'guessing'" in str(failure.event_specific_data)


def test_a_mistake_of_syntax_takes_its_own_model_out_and_no_other(sandbox: DefsFolderSandbox) -> None:
    write(sandbox, "good", model="good")
    write(sandbox, "bad", model="bad")
    (sandbox.defs_folder_path / "bad/defs.yaml").write_text("type: mlops_assets.ModelPipeline\nattributes: [\n")
    found = models(sandbox)
    assert "deployment" in found["good"]
    assert found["bad"] == {"broken"}


def test_the_tree_that_the_ui_shows_has_what_was_loaded(sandbox: DefsFolderSandbox) -> None:
    write(sandbox, "team/first", model="first")
    write(sandbox, "second", model="second")
    write(sandbox, "bad", model="bad", task="guessing")
    with sandbox.build_component_tree() as tree:
        load_models(tree)
        shown = [line for line in tree.to_string_representation().splitlines() if "bad" not in line]
        places = tree.find_root_decl().iterate_loc_component_decl_pairs()
        keys = {place.get_display_key(sandbox.defs_folder_path) for place, _ in places}
    assert {"team", "team/first", "second", "second[0]"} <= keys
    assert not any("bad" in key for key in keys)
    assert any("first" in line for line in shown)


def test_models_that_are_wanted_are_loaded_alone_with_what_is_no_models(sandbox: DefsFolderSandbox) -> None:
    for name in ("first", "second", "third"):
        write(sandbox, f"team/{name}", model=name)
    (sandbox.defs_folder_path / "extra.py").write_text("import dagster as dg\n\n@dg.asset\ndef extra(): ...\n")
    assert models(sandbox, "first", "third").keys() == {"first", "third", "extra"}


def test_what_is_wrong_in_a_yaml_that_is_not_wanted_is_not_read(sandbox: DefsFolderSandbox) -> None:
    write(sandbox, "good", model="good")
    write(sandbox, "bad", model="bad", task="guessing")
    assert models(sandbox, "good").keys() == {"good"}


@pytest.mark.parametrize(
    ("wanted", "because"),
    [("templated", "its name is a template"), ("broken", "it is a folder's"), ("tables", "it is of a Python file")],
)
def test_all_is_loaded_where_the_files_do_not_plainly_say_who_defines_a_name(
    sandbox: DefsFolderSandbox, monkeypatch: pytest.MonkeyPatch, wanted: str, because: str
) -> None:
    monkeypatch.setenv("NAME_OF_MODEL", "templated")
    write(sandbox, "one", model="one")
    write(sandbox, "two", model="{{ env.NAME_OF_MODEL }}")
    write(sandbox, "broken", model="other", task="guessing")
    text = "import dagster as dg\n\n@dg.asset(key=['tables', 'rows'])\ndef rows(): ...\n"
    (sandbox.defs_folder_path / "extra.py").write_text(text)
    assert wanted in models(sandbox, wanted), because


def test_a_model_that_is_wanted_and_that_nothing_defines_is_told_with_those_that_there_are(
    sandbox: DefsFolderSandbox,
) -> None:
    write(sandbox, "one", model="one")
    with pytest.raises(SpecError, match="no YAML defines gone, which MLOPS_MODELS names.*there are one"):
        models(sandbox, "one", "gone")


@pytest.mark.parametrize("wanted", [(), ("gone",)])
def test_the_garbage_collector_is_as_it_was_when_all_is_loaded(
    sandbox: DefsFolderSandbox, wanted: tuple[str, ...]
) -> None:
    write(sandbox, "one", model="one")
    with suppress(SpecError):
        models(sandbox, *wanted)
    assert gc.isenabled()
