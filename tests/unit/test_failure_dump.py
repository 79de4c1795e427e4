"""What a cluster test that fails leaves in its report, with a kubectl that is not there, fails, hangs or answers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import failure_dump
from tests.cluster.failure_dump import cluster_state

SECTIONS = ("pods", "nodes", "nodeclaims", "jobs", "pytorchjobs", "inferenceservices", "events", "log of dagster-code")


def pod(name: str, phase: str, ready: str, created: str) -> dict[str, Any]:
    status = {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}
    return {"metadata": {"name": name, "creationTimestamp": created}, "status": status}


def event(message: str, minutes: int, namespace: str | None = "mlops-test", field: str = "lastTimestamp") -> Any:
    """An event that was last seen some minutes ago, as the field says that its writer uses."""
    seen = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()
    # Karpenter's about nodes and NodeClaims have no name
    about = {"kind": "Pod", "name": "p", "namespace": namespace} if namespace else {"kind": "Node"}
    return {"involvedObject": about, "type": "Warning", "reason": "Because", "message": message, field: seen}


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that prints its arguments; `pods.json` and `events.json` beside it are what it lists."""
    program = tmp_path / "kubectl"
    program.write_text(
        f"""#!/bin/sh
        case "$*" in
          "get pods"*json) cat {tmp_path}/pods.json ;;
          "get events"*) cat {tmp_path}/events.json ;;
          "get nodeclaims"*) echo 'the server has no resource type "nodeclaims"' >&2; exit 1 ;;
          *) echo "printed by $*" ;;
        esac
        """
    )
    program.chmod(0o755)
    (tmp_path / "pods.json").write_text('{"items": []}')
    (tmp_path / "events.json").write_text('{"items": []}')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return program


def test_it_describes_the_newest_pods_that_do_not_run(kubectl: Path) -> None:
    pods = [pod(f"old-{number}", "Failed", "False", f"2026-01-0{number + 1}") for number in range(8)]
    pods += [pod("waits", "Pending", "False", "2026-02-01"), pod("unready", "Running", "False", "2026-02-02")]
    pods += [pod("runs", "Running", "True", "2026-02-03"), pod("ended", "Succeeded", "False", "2026-02-03")]
    kubectl.with_name("pods.json").write_text(json.dumps({"items": pods}))
    found = cluster_state()
    described = [line.removeprefix("== pod ") for line in found.splitlines() if line.startswith("== pod ")]
    assert described == ["unready", "waits", *(f"old-{number}" for number in (7, 6, 5, 4, 3, 2))]
    assert "printed by describe pod -n mlops-test unready" in found


def test_it_sorts_the_events_of_the_last_minutes(kubectl: Path) -> None:
    events = [
        event("newest", 1),
        event("of a node", 2, namespace=None),
        event("as newer clients write it", 3, field="eventTime"),
        event("too old", 60),
        event("of another namespace", 1, namespace="kube-system"),
    ]
    kubectl.with_name("events.json").write_text(json.dumps({"items": events}))
    [section] = [text for text in cluster_state().split("\n\n") if text.startswith("== events")]
    messages = [line.partition("Because: ")[2] for line in section.splitlines()[1:]]
    assert messages == ["as newer clients write it", "of a node", "newest"]


def test_a_kind_that_the_cluster_lacks_has_a_line(kubectl: Path) -> None:
    found = cluster_state()
    assert 'the server has no resource type "nodeclaims"' in found
    assert "printed by logs -n mlops-test deploy/dagster-webserver --tail=60" in found


def test_a_long_text_keeps_its_end(kubectl: Path) -> None:
    kubectl.write_text("#!/bin/sh\nseq 100000\n")
    sections = cluster_state().split("\n\n")
    assert max(len(section) for section in sections) < failure_dump.SECTION_CHARACTERS + 100
    assert sections[0].startswith("== pods\n(")
    assert sections[0].endswith("\n100000")


@pytest.mark.parametrize("program", ["exit 1", "echo no JSON", "echo '{\"items\": [{}]}'", "printf '\\377'"])
def test_it_does_not_fail_where_kubectl_does(kubectl: Path, program: str) -> None:
    kubectl.write_text(f"#!/bin/sh\n{program}\n")
    found = cluster_state()
    assert [title for title in SECTIONS if f"== {title}" in found] == list(SECTIONS)


def test_it_does_not_fail_without_kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "FileNotFoundError" in cluster_state()


def test_it_ends_where_kubectl_hangs(kubectl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(failure_dump, "COMMAND_S", 0.1)
    begin = time.monotonic()
    found = cluster_state(total_s=0.25)
    assert time.monotonic() - begin < 5
    assert "TimeoutExpired" in found
    assert "== the rest is left out" in found


def test_only_the_report_of_a_cluster_test_that_fails_has_it(kubectl: Path, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.cluster.conftest import pytest_runtest_makereport\n")
    (tmp_path / "test_of_three.py").write_text(
        "import pytest\n\n"
        "@pytest.mark.cluster\ndef test_in_the_cluster():\n    assert False\n\n"
        "@pytest.mark.cluster\ndef test_that_passes():\n    pass\n\n"
        "def test_elsewhere():\n    assert False\n"
    )
    root = Path(__file__).parents[2]
    options = ["-q", "-p", "no:cacheprovider", "-c", str(root / "pyproject.toml"), "--rootdir", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path)]
    output = subprocess.run(command, cwd=root, text=True, capture_output=True, check=False).stdout
    assert "2 failed, 1 passed" in output
    assert output.count("the cluster when the test failed") == 1
    assert "printed by get pods -n mlops-test -o wide" in output
