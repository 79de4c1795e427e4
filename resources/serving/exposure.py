"""What exposes a model to the world: a route of the Gateway API, and Envoy Gateway's policies for it.

Routes lead to what callers need of one model, and to nothing else of its pods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resources.kubernetes.labels import MODEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from resources.serving.expose import Auth, Expose

Kind = tuple[str, str, str]  # group, version and plural
ROUTE: Kind = ("gateway.networking.k8s.io", "v1", "httproutes")
SECURITY: Kind = ("gateway.envoyproxy.io", "v1alpha1", "securitypolicies")
TRAFFIC: Kind = ("gateway.envoyproxy.io", "v1alpha1", "backendtrafficpolicies")
KINDS: dict[Kind, str] = {ROUTE: "HTTPRoute", SECURITY: "SecurityPolicy", TRAFFIC: "BackendTrafficPolicy"}
UNUSED_FIRST = (ROUTE, SECURITY, TRAFFIC)  # a route never outlives the policies that guard it
LONGEST_ANSWER = "60s"
AUTHORIZATION = "authorization"


def exposed_as(name: str) -> str:
    """The name of what exposes a service. KServe's own routes have those of services, in which there is no dot."""
    return f"{name}.exposed"


def exposure(
    name: str, model: str, expose: Expose | None, gateway: str, asked: str, predictor: str, owner: Mapping[str, Any]
) -> dict[Kind, dict[str, Any]]:
    """The objects that expose a model, by kind, in the order in which they are to be made; none where it is not.

    `gateway` is namespace/name of the Gateway, or namespace/name/listener. The Services `asked`, for predictions, and
    `predictor` have port 80. All go with `owner`, an owner reference.
    """
    if expose is None:
        return {}
    target = {"group": ROUTE[0], "kind": KINDS[ROUTE], "name": exposed_as(name)}
    specs: dict[Kind, dict[str, Any]] = {}
    if expose.auth:
        specs[SECURITY] = {"targetRefs": [target], **_shown(name, expose.auth)}
    if expose.requests_per_minute:
        limit = {"limit": {"requests": expose.requests_per_minute, "unit": "Minute"}}
        specs[TRAFFIC] = {"targetRefs": [target], "rateLimit": {"type": "Local", "local": {"rules": [limit]}}}
    namespace, gateway_name, *listener = gateway.split("/")
    parent = {"group": ROUTE[0], "kind": "Gateway", "namespace": namespace, "name": gateway_name}
    v1, v2 = f"/v1/models/{model}", f"/v2/models/{model}"
    rules = [
        _rule(asked, "POST", (f"{v1}:predict", f"{v1}:explain", f"{v2}/infer")),
        _rule(predictor, "POST", (f"{v1}/feedback",)),
        _rule(predictor, "GET", (v1, v2, f"{v2}/ready")),
    ]
    if expose.auth and expose.auth.jwt:
        # Envoy Gateway passes tokens on; with one, who reads the model's traffic could ask all that takes it
        kept_back = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": [AUTHORIZATION]}}
        rules = [rule | {"filters": [kept_back]} for rule in rules]
    specs[ROUTE] = {
        "parentRefs": [parent | ({"sectionName": listener[0]} if listener else {})],
        "hostnames": [expose.host],
        "rules": rules,
    }
    metadata = {"name": exposed_as(name), "labels": {MODEL: model}, "ownerReferences": [dict(owner)]}
    return {
        kind: {"apiVersion": "/".join(kind[:2]), "kind": KINDS[kind], "metadata": metadata, "spec": spec}
        for kind, spec in specs.items()
    }


def credential(auth: Auth | None) -> str | None:
    """The header by which a caller shows who they are, as a shell writes it."""
    if auth is None:
        return None
    return f"{auth.api_key.header}: $API_KEY" if auth.api_key else f"{AUTHORIZATION}: Bearer $TOKEN"


def _shown(name: str, auth: Auth) -> dict[str, Any]:
    """What a SecurityPolicy says of who is let in."""
    if auth.api_key:
        secret = {"group": "", "kind": "Secret", "name": auth.api_key.secret}
        # The key does not go on to the model
        key = {"credentialRefs": [secret], "extractFrom": [{"headers": [auth.api_key.header]}], "sanitize": True}
        return {"apiKeyAuth": key}
    assert auth.jwt
    provider = {"name": name, "issuer": auth.jwt.issuer, "audiences": list(auth.jwt.audiences)}
    # Not in an address, where Envoy would take one too: addresses are written into logs
    taken = {"extractFrom": {"headers": [{"name": AUTHORIZATION, "valuePrefix": "Bearer "}]}}
    return {"jwt": {"providers": [provider | taken | {"remoteJWKS": {"uri": auth.jwt.jwks}}]}}


def _rule(service: str, method: str, paths: Iterable[str]) -> dict[str, Any]:
    return {
        "matches": [{"path": {"type": "Exact", "value": path}, "method": method} for path in paths],
        "backendRefs": [{"group": "", "kind": "Service", "name": service, "port": 80, "weight": 1}],
        "timeouts": {"request": LONGEST_ANSWER},
    }
