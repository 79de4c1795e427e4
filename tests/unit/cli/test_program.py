"""The program as it is called: help, exit status, errors in one sentence; and that nothing starts by accident."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from mlops_assets.cli.program import main
from mlops_assets.spec.json_schema import schema

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize("arguments", [[], ["--help"], ["servers"], ["servers", "--help"], ["servers", "start", "-h"]])
def test_without_a_command_and_with_help_the_usage_is_shown_and_nothing_happens(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    assert "Usage:" in call(*arguments).output
    assert not (tmp_path / "home").exists()


def test_a_wrong_call_ends_with_2_and_says_what_is_wrong() -> None:
    result = call("servers", "sttaus")
    assert result.exit_code == 2
    assert "sttaus" in result.output


def test_help_comes_at_once_and_imports_nothing_heavy() -> None:
    heavy = ["dagster", "torch", "mlflow", "sklearn", "duckdb", "pandas"]
    program = (
        "import sys; from mlops_assets.cli.program import main; main(['--help'], standalone_mode=False); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


def test_the_module_is_the_program() -> None:
    command = [sys.executable, "-m", "mlops_assets.cli", "--help"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.startswith("Usage: mlops-assets ")


def test_an_error_of_ours_is_one_sentence_without_a_stack(tmp_path: Path) -> None:
    result = call("check", tmp_path)
    assert result.exit_code == 1
    assert result.output == (
        f"Error: there is no defs.yaml in {tmp_path}; give another folder, or write one: mlops-assets init.\n"
    )


def test_the_schema_is_printed_or_written(tmp_path: Path) -> None:
    assert json.loads(call("schema").output) == schema()
    assert call("schema", tmp_path / "model.schema.json").output == ""
    assert json.loads((tmp_path / "model.schema.json").read_text()) == schema()


def test_check_prints_problems_and_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "defs.yaml").write_text("type: mlops_assets.ModelPipeline\n")
    result = call("check", tmp_path / "defs.yaml")
    assert result.exit_code == 1
    assert "defs.yaml:1: the model is missing" in result.output
    assert "1 problem in 1 file" in result.output


def test_check_of_the_models_that_ship_finds_nothing() -> None:
    result = call("check")
    assert (result.exit_code, result.output) == (
        0,
        "departure_delay, flight_delay, fraud_detection, iris: no problems\n",
    )
