"""mlops_assets.testing can be imported by any test suite."""

from __future__ import annotations

import subprocess
import sys


def test_the_checks_import_neither_a_test_runner_nor_the_platform() -> None:
    heavy = ["dagster", "pytest", "kserve", "mlflow", "onnx", "onnxruntime", "sklearn", "torch"]
    program = f"import sys, mlops_assets.testing; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
