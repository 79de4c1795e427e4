"""The image of a step's pod: the code location's, which Dagster takes by itself, or the trainer's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resources.environment import Environment

if TYPE_CHECKING:
    from resources.kubernetes.compute import PodPolicy


def image_config(policy: PodPolicy) -> dict[str, Any]:
    """What of `dagster-k8s/config` names the image.

    The run's code location has said which trainer belongs to it, and Dagster keeps that with the run: all steps of a
    run have the same version of the code, also when another one is installed meanwhile.
    """
    if policy.image == "platform":
        return {}
    return {"container_config": {"image": Environment.read().trainer_image}}
