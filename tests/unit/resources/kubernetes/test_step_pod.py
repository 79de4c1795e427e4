"""How a step's pod takes SIGTERM, and how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

STEP = """
import signal, sys, time
from mlops_assets.assets.trained_model import stop_signal
signal.signal(signal.SIGTERM, lambda *_: print("Dagster heard it", flush=True))
if sys.argv[1] == "training":
    with stop_signal() as asked:
        print("ready", flush=True)
        while not asked():
            time.sleep(0.01)
        print("checkpoint", flush=True)
else:
    print("ready", flush=True)
    time.sleep(60)
print("went on", flush=True)
"""


@pytest.mark.parametrize(("kind", "last"), [("training", "ready\ncheckpoint\n"), ("any other", "ready\n")])
def test_a_step_that_is_told_to_go_writes_its_checkpoint_and_says_nothing_to_dagster(kind: str, last: str) -> None:
    command = [sys.executable, "-m", "resources.kubernetes.step_pod", sys.executable, "-c", STEP, kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        said += process.stdout.read()
    assert (process.returncode, said) == (143, last)


@pytest.mark.parametrize(("code", "exits"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)])
def test_a_step_pod_ends_as_its_process_did(code: str, exits: int) -> None:
    command = [sys.executable, "-m", "resources.kubernetes.step_pod", sys.executable, "-c", code]
    assert subprocess.run(command, check=False).returncode == exits
