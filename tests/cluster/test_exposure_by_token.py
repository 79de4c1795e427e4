"""A model that is exposed to who has a token: a real issuer, whose keys a real gateway gets, and wrong tokens."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.cluster.environment_copy import as_list
from tests.cluster.issuer import PROGRAM, Issuer
from tests.cluster.kubectl import kubectl, objects
from tests.cluster.waiting import POD_START_S, QUIET_S, SOON_S, stays, wait_until
from tests.cluster.world import PREDICT, World, exposable_model, python_server, run_servers

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
ENVOYS = "envoy-gateway-system"  # where Envoy Gateway has the pods of all gateways
AUDIENCE = "models"


@pytest.fixture(scope="module")
def issuer(model: str) -> Issuer:
    """An issuer whose server is a pod beside the model."""
    issuer = Issuer(f"issuer.{model}.svc.cluster.local", AUDIENCE)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "issuer"}, "stringData": issuer.secret}
    kubectl("create", "-n", model, "-f", "-", stdin=json.dumps(secret))
    run_servers(model, python_server("issuer", PROGRAM, 443, "issuer"))
    return issuer


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    """The namespace of a model that may be exposed."""
    with exposable_model() as namespace:
        yield namespace


@pytest.fixture(scope="module")
def world(model: str, issuer: Issuer) -> Iterator[World]:
    """The model behind a gateway that trusts the certificate of the issuer, as others trust those of the world."""
    with gateway_that_trusts(issuer.certificate, model) as gateway:
        yield World(model, gateway)


@contextmanager
def gateway_that_trusts(certificate: str, namespace: str) -> Iterator[tuple[str, str]]:
    """A Gateway of the cluster's class whose Envoy has this in the place of its image's certificates."""
    name, kept = "trusting", f"{namespace}-certificates"
    [envoy_class] = [
        item
        for item in objects("gatewayclasses")
        if item["spec"]["controllerName"].startswith("gateway.envoyproxy.io/")
    ]
    spec = usual_proxy(envoy_class)
    kubernetes = spec.setdefault("provider", {"type": "Kubernetes"}).setdefault("kubernetes", {})
    deployment = kubernetes.setdefault("envoyDeployment", {})
    mounted = {"name": "certificates", "mountPath": "/etc/ssl/certs"}
    deployment.setdefault("container", {})["volumeMounts"] = [mounted]
    deployment.setdefault("pod", {})["volumes"] = [{"name": "certificates", "configMap": {"name": kept}}]
    group = "gateway.envoyproxy.io"
    listener = {"name": "http", "protocol": "HTTP", "port": 80}
    about = {"name": name, "namespace": namespace}
    certificates = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": kept, "namespace": ENVOYS},
        "data": {"ca-certificates.crt": certificate},
    }
    made = [
        certificates,
        {"apiVersion": f"{group}/v1alpha1", "kind": "EnvoyProxy", "metadata": about, "spec": spec},
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": about,
            "spec": {
                "gatewayClassName": envoy_class["metadata"]["name"],
                "infrastructure": {"parametersRef": {"group": group, "kind": "EnvoyProxy", "name": name}},
                "listeners": [listener],
            },
        },
    ]
    try:
        kubectl("create", "-f", "-", stdin=as_list(made))
        programmed = ("--for=condition=Programmed", f"--timeout={POD_START_S}s")
        kubectl("wait", f"gateway/{name}", "-n", namespace, *programmed)
        yield namespace, name
    finally:
        kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=as_list(made))


def usual_proxy(envoy_class: dict[str, Any]) -> dict[str, Any]:
    """How the gateways of a class are laid out."""
    where = envoy_class["spec"].get("parametersRef")
    if where is None:
        return {}
    found = kubectl("get", "envoyproxies", "-n", where["namespace"], where["name"], "-o", "json")
    return json.loads(found)["spec"]


def by_token(issuer: Issuer, **others: Any) -> dict[str, Any]:
    return {"jwt": {"issuer": issuer.name, "jwks": issuer.jwks, "audiences": [AUDIENCE], **others}}


def with_token(world: World, token: str) -> int:
    """What who has a token is told."""
    return world.ask(authorization=f"Bearer {token}")[0]


def let_in(world: World, issuer: Issuer) -> None:
    """Wait until who has a good token is let in."""
    wait_until(lambda: with_token(world, issuer.token()) == 200, SOON_S, "who has a token is let in")


def test_who_has_a_token_of_the_issuer_for_the_audience_is_let_in_and_nobody_else(world: World, issuer: Issuer) -> None:
    now = int(time.time())
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    wrong = {
        "expired": issuer.token(exp=now - 600),
        "not yet valid": issuer.token(nbf=now + 600),
        "of another issuer": issuer.token(iss="https://id.example.org"),
        "of no issuer": issuer.token(iss=None),
        "signed by a stranger": issuer.token(stranger),
        "not signed": issuer.unsigned(),
        "signed with the public key": issuer.confused(),
        "with other claims": with_other_claims(issuer),
        "no token": "alice",
    }
    world.expose(auth=by_token(issuer))
    let_in(world, issuer)
    assert world.ask()[0] == 401
    assert world.ask("/v2/models/iris/ready", "GET")[0] == 401
    assert {what: with_token(world, token) for what, token in wrong.items()} == dict.fromkeys(wrong, 401)
    for audience in ("reports", None):
        assert with_token(world, issuer.token(aud=audience)) == 403, "it is known who asks, and they may not"
    assert with_token(world, issuer.token(aud=["reports", AUDIENCE])) == 200
    assert world.ask(f"{PREDICT}?access_token={issuer.token()}")[0] == 401, "addresses are written into logs"
    assert world.ask(authorization=issuer.token())[0] == 401, "not as a bearer's"


def with_other_claims(issuer: Issuer) -> str:
    """A good token's signature under what another one claims."""
    head, _, signature = issuer.token().split(".")
    _, claims, _ = issuer.token(sub="bob").split(".")
    return f"{head}.{claims}.{signature}"


def test_a_token_does_not_come_to_the_model(world: World, issuer: Issuer) -> None:
    world.expose(auth=by_token(issuer))
    let_in(world, issuer)
    headers = world.ask(authorization=f"Bearer {issuer.token()}")[1]["headers"]
    assert "authorization" not in headers


def test_more_requests_than_a_minute_has_are_refused_also_with_a_token(world: World, issuer: Issuer) -> None:
    world.expose(auth=by_token(issuer), requests_per_minute=20)
    token = issuer.token()
    wait_until(lambda: with_token(world, token) == 429, SOON_S, "the limit is reached", every_s=0.05)
    world.expose(auth=by_token(issuer), requests_per_minute=30)
    let_in(world, issuer)
    assert {world.ask()[0] for _ in range(60)} == {401}
    assert with_token(world, token) == 200, "who is not let in uses up nothing"


def test_while_the_keys_of_the_issuer_are_not_to_be_had_nobody_is_let_in(world: World, issuer: Issuer) -> None:
    world.expose(auth=by_token(issuer, jwks=f"https://{issuer.host}/elsewhere.json"))
    wait_until(lambda: with_token(world, issuer.token()) == 401, SOON_S, "the other keys are asked for")
    stays(lambda: with_token(world, issuer.token()) == 401, QUIET_S, "nobody is let in")
    world.expose(auth=by_token(issuer))
    let_in(world, issuer)
