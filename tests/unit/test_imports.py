"""What loading the code location or the predictor does not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_loading_imports_no_heavy_library() -> None:
    heavy = [
        "torch",
        "pandas",
        "mlflow",
        "kserve",
        "sklearn",
        "evidently",
        "onnx",
        "onnxruntime",
        "matplotlib",
        "scipy",
    ]
    program = f"import sys, mlops_assets.definitions; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert found.stdout.strip() == "[]"


def test_a_predictor_imports_neither_dagster_nor_the_training_stack() -> None:
    program = (
        "import sys; sys.argv = ['server']; import mlops_assets.serving.model_server, mlops_assets.serving.routes\n"
        "heavy = ['dagster', 'mlflow', 'torch', 'sklearn', 'duckdb', 'kserve', 'pandas']\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert found.stdout.strip().splitlines()[-1] == "[]"
