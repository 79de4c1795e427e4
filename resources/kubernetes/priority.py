"""Priority classes by the names of an environment: several that share a cluster have classes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def with_prefix(config: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """dagster-k8s's configuration of a pod, whose priority class gets the prefix.

    >>> with_prefix({"pod_spec_config": {"priority_class_name": "mlops-training"}}, "team-b-")
    {'pod_spec_config': {'priority_class_name': 'team-b-mlops-training'}}
    """
    pod: Mapping[str, Any] = config.get("pod_spec_config", {})
    if "priority_class_name" not in pod:
        return dict(config)
    return {**config, "pod_spec_config": {**pod, "priority_class_name": prefix + pod["priority_class_name"]}}
