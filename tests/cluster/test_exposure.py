"""What exposes a model, through a real gateway: made by the account of a deployment step, and asked from outside."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from mlops_assets.ml.errors import DeploymentError
from resources.serving.expose import Expose
from resources.serving.exposure import ROUTE, SECURITY, exposure
from tests.cluster.kubectl import kubectl
from tests.cluster.waiting import SOON_S, wait_until
from tests.cluster.world import GATEWAY, HOST, PREDICT, World, exposable_model

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
KEY = "a-key-of-alice"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A model behind the cluster's gateway, and the Secret of its callers."""
    with exposable_model() as namespace:
        kubectl("create", "secret", "generic", "callers", "-n", namespace, f"--from-literal=alice={KEY}")
        yield World(namespace)


def test_who_shows_a_key_is_let_in_and_nobody_else_at_any_moment(world: World) -> None:
    seen, ended = set[int](), threading.Event()

    def ask_on() -> None:
        while not ended.wait(0.02):
            seen.add(world.ask()[0])

    asking = threading.Thread(target=ask_on)
    asking.start()
    try:
        world.expose(auth={"api_key": {"secret": "callers"}})
        wait_until(lambda: world.ask(x_api_key=KEY)[0] == 200, SOON_S, "who has the key is let in")
        time.sleep(2)
    finally:
        ended.set()
        asking.join()
    assert 401 in seen
    assert 200 not in seen
    assert world.ask(x_api_key="another")[0] == 401
    headers = world.ask(x_api_key=KEY)[1]["headers"]
    assert "x-api-key" not in headers, "the key came to the model"
    # Removed again, as by a YAML without `expose`
    world.expose()
    wait_until(lambda: world.ask(x_api_key=KEY)[0] == 404, SOON_S, "the route is gone")


def test_callers_come_to_this_model_and_to_nothing_else(world: World) -> None:
    world.expose(auth="none")
    wait_until(lambda: world.ask()[0] == 200, SOON_S, "everybody is let in")
    for method, path in (
        ("POST", "/v2/models/iris/infer"),
        ("GET", "/v2/models/iris/ready"),
        ("GET", "/v1/models/iris"),
    ):
        assert (world.ask(path, method)[0], path) == (200, path)
    closed = (
        *(("GET", "/metrics"), ("GET", "/v2/repository/index"), ("POST", "/v2/repository/index"), ("GET", "/docs")),
        *(("POST", "/v2/repository/models/iris/load"), ("GET", PREDICT), ("POST", "/v1/models/other:predict")),
        *(
            ("POST", f"{PREDICT}/../../../metrics"),
            ("GET", "/v2/models/iris/ready/%2e%2e/%2e%2e/%2e%2e/repository/index"),
        ),
        *(("GET", "//metrics"), ("GET", "/v2/models/iris%2f..%2f..%2fmetrics")),
    )
    for method, path in closed:
        assert (world.ask(path, method)[0], path) in ((404, path), (400, path))
    assert world.ask(Host="other.example.com")[0] == 404


def test_more_requests_than_a_minute_has_are_refused(world: World) -> None:
    world.expose(auth="none", requests_per_minute=20)
    wait_until(lambda: world.ask()[0] == 429, SOON_S, "the limit is reached", every_s=0.05)


def test_a_deployment_step_opens_no_other_door(world: World) -> None:
    made = exposure(
        "iris",
        "iris",
        Expose.model_validate({"host": HOST, "auth": {"api_key": {"secret": "callers"}}}),
        "/".join(GATEWAY),
        "iris-predictor",
        "iris-predictor",
        world.owner,
    )

    def refused(kind: Any, path: str, value: Any) -> str:
        item = json.loads(json.dumps(made[kind]))
        *way, last = path.split(".")
        place: Any = item
        for name in way:
            place = place[int(name)] if name.isdecimal() else place[name]
        place[last] = value
        with pytest.raises(DeploymentError) as found:
            world.services.expose("iris", {kind: item})
        return str(found.value)

    backend = "spec.rules.0.backendRefs"
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "dagster-webserver", "port": 80}}}
    header = {"name": "x-role", "value": "replay"}
    for path, value in (
        (f"{backend}", [{"name": "dagster-webserver", "port": 80}]),
        (f"{backend}", [{"name": "iris-predictor", "port": 80, "namespace": "kserve"}]),
        (f"{backend}", [{"name": "iris-predictor", "group": "gateway.envoyproxy.io", "kind": "Backend", "port": 80}]),
        (f"{backend}", [{"name": "iris-predictor", "port": 80, "filters": [mirror]}]),
        ("spec.rules.0.filters", [mirror]),
        ("spec.rules.0.filters", [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [header]}}]),
        ("spec.hostnames", []),
    ):
        assert "makes routes to models alone" in refused(ROUTE, path, value), path
    gateway = [{"group": ROUTE[0], "kind": "Gateway", "name": GATEWAY[1]}]
    another = [{"group": ROUTE[0], "kind": "HTTPRoute", "name": "another"}]
    for path, value in (
        ("spec.targetRefs", gateway),
        ("spec.targetRefs", another),
        ("spec.cors", {"allowOrigins": ["*"]}),
        ("spec.extAuth", {"http": {"backendRefs": [{"name": "dagster-webserver", "port": 80}]}}),
    ):
        assert "says of its own routes alone who may ask" in refused(SECURITY, path, value), path
