"""What can be wrong with how a YAML lays out a model's service."""

from __future__ import annotations

from typing import Any

from tests.support import attributes


def _broken(what: str, block: str, fields: Any, field: str, message: str) -> tuple[str, dict[str, Any], str, str]:
    return what, attributes(deploy={block: fields}), f"deploy.{block}{field}", message


BROKEN_SERVICES = [
    _broken("scale is a number", "scale", 3, "", "give fields"),
    _broken("no pods", "scale", {"min_replicas": 0}, ".min_replicas", "greater than or equal to 1"),
    _broken("too many pods", "scale", {"max_replicas": 1001}, ".max_replicas", "less than or equal to 1000"),
    _broken(
        "most below least",
        "scale",
        {"min_replicas": 3, "max_replicas": 2},
        ".max_replicas",
        "2 is less than min_replicas, 3; raise it",
    ),
    _broken("scaled by what", "scale", {"metric": "rps"}, ".metric", "'cpu', 'memory' or 'concurrency'"),
    _broken("target is none", "scale", {"target": 0}, ".target", "greater than or equal to 1"),
    _broken(
        "target is no share", "scale", {"target": 120}, ".target", "120 is no share of the requested cpu in percent"
    ),
    _broken("resources are text", "resources", "large", "", "give fields"),
    _broken("no cpu", "resources", {"cpu": 0}, ".cpu", "greater than or equal to 0.001"),
    _broken("memory of predictors", "resources", {"memory": "2G"}, ".memory", "(Mi|Gi|Ti)"),
    _broken("gpus of predictors", "resources", {"gpu": 17}, ".gpu", "less than or equal to 16"),
]
