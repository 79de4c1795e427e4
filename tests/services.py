"""What can be wrong with how a YAML lays out a model's service."""

from __future__ import annotations

from typing import Any

from tests.support import attributes


def _broken(what: str, block: str, fields: Any, field: str, message: str) -> tuple[str, dict[str, Any], str, str]:
    return what, attributes(deploy={block: fields}), f"deploy.{block}{field}", message


HOST = "iris.example.com"
JWT = {"issuer": "i", "jwks": "https://i/keys", "audiences": ["a"]}
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
    _broken("exposed by its name alone", "expose", "iris.example.com", "", "give fields"),
    _broken("host is an address", "expose", {"host": "https://iris", "auth": "none"}, ".host", "does not match"),
    _broken("host without auth", "expose", {"host": HOST}, ".auth", "missing; add it"),
    _broken("auth is empty", "expose", {"host": HOST, "auth": None}, ".auth", "or write none in letters"),
    _broken("auth of no kind", "expose", {"host": HOST, "auth": {}}, ".auth", "give one of api_key and jwt"),
    _broken(
        "auth of two kinds",
        "expose",
        {"host": HOST, "auth": {"api_key": {"secret": "s"}, "jwt": JWT}},
        ".auth",
        "give one of api_key and jwt",
    ),
    _broken("key is text", "expose", {"host": HOST, "auth": {"api_key": "s"}}, ".auth.api_key", "give fields"),
    _broken("key without secret", "expose", {"host": HOST, "auth": {"api_key": {}}}, ".auth.api_key.secret", "missing"),
    _broken(
        "header of the key",
        "expose",
        {"host": HOST, "auth": {"api_key": {"secret": "s", "header": "X Key"}}},
        ".auth.api_key.header",
        "does not match the pattern",
    ),
    _broken("token is text", "expose", {"host": HOST, "auth": {"jwt": "i"}}, ".auth.jwt", "give fields"),
    _broken(
        "no issuer", "expose", {"host": HOST, "auth": {"jwt": JWT | {"issuer": ""}}}, ".auth.jwt.issuer", "at least 1"
    ),
    _broken(
        "keys over http",
        "expose",
        {"host": HOST, "auth": {"jwt": JWT | {"jwks": "http://i/keys"}}},
        ".auth.jwt.jwks",
        "does not match the pattern",
    ),
    _broken(
        "no audience",
        "expose",
        {"host": HOST, "auth": {"jwt": JWT | {"audiences": []}}},
        ".auth.jwt.audiences",
        "at least 1",
    ),
    _broken(
        "no requests",
        "expose",
        {"host": HOST, "auth": "none", "requests_per_minute": 0},
        ".requests_per_minute",
        "greater than or equal to 1",
    ),
]
