"""An API server that answers 503 now and then: every call of a run is refused once, and nothing differs."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from tests.cluster.faults import need_this_machine
from tests.cluster.kubectl import NAMESPACE, kubectl, names, objects, run_script
from tests.cluster.platform import STAGES, of_run, step
from tests.cluster.refusing_proxy import refusing_proxy
from tests.cluster.results import training_keys
from tests.cluster.waiting import POD_START_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.platform import Platform
    from tests.cluster.refusing_proxy import RefusingProxy

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(1500)]
MODEL = "beside"
DAEMON = "deployment/dagster-daemon"


@pytest.fixture
def proxy(platform: Platform, tmp_path: Path) -> Iterator[RefusingProxy]:
    """The proxy, by which the daemon that launches runs goes too."""
    need_this_machine()
    with refusing_proxy(tmp_path) as made:
        set_variables(*(f"{item['name']}={item['value']}" for item in made.variables))
        try:
            yield made
        finally:
            set_variables(*(f"{item['name']}-" for item in made.variables))


def set_variables(*assignments: str) -> None:
    """Of the daemon, which starts again with them."""
    kubectl("set", "env", "-n", NAMESPACE, DAEMON, *assignments)
    kubectl("rollout", "status", "-n", NAMESPACE, DAEMON, f"--timeout={POD_START_S}s")


def test_a_training_by_several_and_a_roll_out_whose_every_call_is_refused_once(
    platform: Platform, proxy: RefusingProxy
) -> None:
    run_script("delete_keys", *training_keys(MODEL))
    by_proxy = {"container_config": {"env": proxy.variables}}
    run_id = platform.launch(
        job=MODEL,
        config=json.dumps({"execution": {"config": {"step_k8s_config": by_proxy}}}),
        tags={"dagster-k8s/config": json.dumps(by_proxy)},
    )
    run = platform.run_succeeds(run_id)

    assert not run.events_of("ExecutionStepUpForRetryEvent")
    assert "Resuming run" not in run.text
    started = [event["stepKey"] for event in run.events_of("ExecutionStepStartEvent")]
    assert sorted(started) == sorted(step(MODEL, stage) for stage in STAGES), "each step once"
    assert len(objects("jobs", "-n", NAMESPACE, "-l", of_run(run_id))) == 1 + len(STAGES), "of the run and of its steps"
    made: dict[str, list[str]] = defaultdict(list)
    for kind, name in proxy.made:
        made[kind].append(name)
    assert len(made["Job"]) == len(set(made["Job"])) == 1 + len(STAGES)
    assert len(made["PyTorchJob"]) == 1
    assert sorted(made["InferenceService"]) == [MODEL, f"{MODEL}-candidate"]
    assert made["PodDisruptionBudget"] == [MODEL]
    assert names(objects("inferenceservices", "-n", NAMESPACE, "-l", f"mlops.dev/model={MODEL}")) == {MODEL}
    inside = f"namespaces/{NAMESPACE}"
    for path in (f"batch/v1/{inside}/jobs", f"kubeflow.org/v1/{inside}/pytorchjobs"):
        assert proxy.refused[f"POST /apis/{path}"] == 2, "refused, and done without an answer"
    refused = sorted(proxy.refused)
    print("\n".join(refused))
    assert {call.partition(" ")[0] for call in refused} >= {"GET", "POST", "DELETE"}
