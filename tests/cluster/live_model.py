"""A served model under load: callers in the cluster, and roll-outs of other versions, in pods of a deployment step."""

from __future__ import annotations

import copy
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.cluster.kubectl import NAMESPACE, SCRIPTS, create, kubectl
from tests.cluster.waiting import POD_START_S, RUN_STOPS_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

ENDED = ("reached baked", "was rolled back", "was not rolled out")


def as_deployment_step(pod: dict[str, Any], name: str, script: str, *arguments: str) -> dict[str, Any]:
    """A pod with all that the pod of a deployment step has, for another program."""
    spec = copy.deepcopy(pod["spec"])
    [container] = spec["containers"]
    program = (SCRIPTS / f"{script}.py").read_text()
    container["command"], container["args"] = ["python", "-c", program, *arguments], []
    # Admission gives it a token of its own
    for item, part in ((spec, "volumes"), (container, "volumeMounts")):
        item[part] = [volume for volume in item[part] if not volume["name"].startswith("kube-api-access")]
    del spec["nodeName"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


@contextmanager
def calling(pod: dict[str, Any], model: str) -> Generator[Callable[[], dict[str, Any]]]:
    """Eight callers in the cluster that ask the model by its Service all the time; what they have got up to now."""
    name = "callers"
    create(as_deployment_step(pod, name, "call_model", model))

    def got() -> dict[str, Any]:
        lines = kubectl("logs", "-n", NAMESPACE, name, "--tail=1", check=False).splitlines()
        return json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {"versions": {}, "failed": 0}

    try:
        wait_until(lambda: got()["versions"], POD_START_S, "callers get answers")
        yield got
    finally:
        kubectl("delete", "pod", "-n", NAMESPACE, name, "--grace-period=1")


class RollOut:
    """A roll-out in a pod."""

    def __init__(self, pod: str) -> None:
        self.pod = pod

    def said(self) -> str:
        """What it has said up to now."""
        return kubectl("logs", "-n", NAMESPACE, self.pod, check=False)

    @property
    def states(self) -> list[str]:
        """The states that it has reached."""
        return [line.split()[1].rstrip(":") for line in self.said().splitlines() if line.startswith("reached ")]

    def reaches(self, state: str) -> None:
        """It has reached a state."""

        def reached() -> bool:
            assert not self._has_ended(), self.said()
            return state in self.states

        wait_until(reached, POD_START_S, f"the roll-out has reached {state}")

    def ends(self) -> list[str]:
        """The states that it has reached when it has ended."""
        wait_until(self._has_ended, RUN_STOPS_S, "the roll-out has ended")
        print(self.said())
        return self.states

    def _has_ended(self) -> bool:
        said = self.said()
        return any(end in said for end in ENDED)


@contextmanager
def roll_out(pod: dict[str, Any], model: str, version: int, canary_requests: int) -> Generator[RollOut]:
    """A pod that rolls the served model out as another version."""
    name = f"roll-out-{version}"
    create(as_deployment_step(pod, name, "roll_out_again", model, str(version), str(canary_requests)))
    try:
        yield RollOut(name)
    finally:
        kubectl("delete", "pod", "-n", NAMESPACE, name, "--wait=false")
