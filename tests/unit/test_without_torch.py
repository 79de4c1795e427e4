"""Where torch is not installed, as in the image mlops-platform, all is there but the training of networks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
BLOCKED = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "nvidia", "triton", "functorch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])
sys.meta_path.insert(0, NoTorch())
"""


def without_torch(program: str) -> subprocess.CompletedProcess[str]:
    """What a program says in a Python without torch."""
    command = [sys.executable, "-c", BLOCKED + program]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)


def test_every_module_but_those_that_train_networks_can_be_imported() -> None:
    found = without_torch(
        "import importlib, pkgutil, mlops_assets, resources\n"
        "for package in (mlops_assets, resources):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if module.name.endswith('__main__'): continue\n"
        "        try: importlib.import_module(module.name)\n"
        "        except ModuleNotFoundError as error: print(module.name, error.name)\n"
    )
    assert found.returncode == 0, found.stderr
    rooms = {line.rpartition(" ")[0].rpartition(".")[0] for line in found.stdout.splitlines()}
    assert rooms == {"mlops_assets.ml", "mlops_assets.ml.training"}
    assert {line.rpartition(" ")[2] for line in found.stdout.splitlines()} == {"torch"}


def test_models_that_are_networks_load_and_their_trainings_ask_for_the_trainer() -> None:
    found = without_torch(
        "from mlops_assets.definitions import defs; import dagster as dg, json\n"
        "graph = defs.resolve_asset_graph()\n"
        "for model in ('flight_delay', 'iris'):\n"
        "    tags = defs.get_assets_def(dg.AssetKey([model, 'trained_model'])).op.tags\n"
        "    print(model, json.loads(tags['mlops.dev/pod'])['image'])\n"
    )
    assert found.stdout.splitlines() == ["flight_delay trainer", "iris platform"], found.stderr


def test_a_training_without_torch_says_what_to_do() -> None:
    found = without_torch(
        "from mlops_assets.ml.import_paths import import_class\n"
        "from mlops_assets.ml.errors import TrainingError\n"
        "try: import_class('mlops_assets.ml.networks.MLP')\n"
        "except TrainingError as error: print(error)\n"
    )
    assert "(No module named 'torch'); import torch in the file of this class" in found.stdout


def test_doctor_says_that_there_is_no_torch() -> None:
    found = without_torch("from mlops_assets.cli.doctor import _gpu; print(_gpu().status, _gpu().what)")
    assert "OK torch is not installed" in found.stdout, found.stderr
